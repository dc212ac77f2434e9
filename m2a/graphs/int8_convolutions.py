"""Graph rewrite: convolutions in INT8.

    Conv(x, W, b)  →  Conv(DQ(Q(x)), DQ(W₈), b)

x has one scale, W one for each output channel. The bias stays in FP32: it is added to sums that
are exact. Padding adds zeros, which INT8 holds exactly, since the zero point is 0. A tensor that
several convolutions read is rounded once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx
from onnx import numpy_helper

from m2a.graphs.quantization import QuantizedTensors, activation_scale, replace_nodes


def convolutions(graph: onnx.GraphProto) -> dict[str, str]:
    """The convolutions that the rewrite applies to: name of the weight → the tensor it reads."""
    return {
        node.input[1]: node.input[0]
        for node in graph.node
        if node.op_type == "Conv" and refusal(graph, node) is None
    }


def refusal(graph: onnx.GraphProto, node: onnx.NodeProto) -> str | None:
    """Returns why the rewrite leaves a node alone, or None where it applies."""
    if node.op_type != "Conv":
        return f"{node.name} is a {node.op_type}, not a Conv"
    if node.input[1] not in {tensor.name for tensor in graph.initializer}:
        return f"the weight of {node.name} is no constant"
    if sum(name == node.input[1] for other in graph.node for name in other.input) > 1:
        return f"{node.input[1]}, the weight of {node.name}, has other readers"
    return None


def quantize_convolutions(
    model: onnx.ModelProto, ranges: Mapping[str, float], *, keep: Collection[str] = ()
) -> int:
    """Puts convolutions into INT8.

    Args:
        model: changed in place.
        ranges: tensor → the largest |x| to keep, of each that `convolutions` names.
        keep: names of weights whose convolutions stay in FP32.

    Returns:
        The number of convolutions rewritten.

    Raises:
        KeyError: a tensor has no range.
    """
    graph = model.graph
    wanted = {name: x for name, x in convolutions(graph).items() if name not in keep}
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    tensors = QuantizedTensors(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Conv" and node.input[1] in wanted:
            source, name = node.input[0], node.input[1]
            scale = activation_scale(ranges[source])
            node.input[0], pair = tensors.pair(
                source, scale_of=source, scale=scale, label="convolved"
            )
            node.input[1], stored = tensors.weights(name, weights[name], axis=0)
            nodes += [*pair, stored]
        nodes.append(node)
    replace_nodes(graph, nodes)
    return len(wanted)
