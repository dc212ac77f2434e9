"""Graph rewrite: a product and its bias as one Gemm.

    Add(MatMul(x, W), b)  →  Gemm(x, W, b) = x · W + b

for W [K, N] and b [N]. ONNX Runtime does it by itself, but for an INT8 graph that must be
forbidden: it would do it to the quantised products too, which then run in FP32. What stays in FP32
there gets it from this rewrite.
"""

from __future__ import annotations

import onnx
from onnx import helper

from m2a.graphs.quantization import replace_nodes


def fuse_biases(model: onnx.ModelProto) -> int:
    """Fuses biases into the products whose weight is stored in FP32.

    Args:
        model: changed in place.

    Returns:
        The number of products fused.
    """
    graph = model.graph
    fused: dict[str, onnx.NodeProto] = {}
    gone: set[str] = set()
    for node in graph.node:
        if refusal(graph, node) is None:
            add = _readers(graph, node.output[0])[0]
            bias = next(name for name in add.input if name != node.output[0])
            fused[add.name] = helper.make_node(
                "Gemm", [*node.input, bias], list(add.output), node.name
            )
            gone.add(node.name)
    replace_nodes(graph, [fused.get(n.name, n) for n in graph.node if n.name not in gone])
    return len(fused)


def refusal(graph: onnx.GraphProto, node: onnx.NodeProto) -> str | None:
    """Returns why the rewrite leaves a node alone, or None where it applies."""
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    if node.op_type != "MatMul":
        return f"{node.name} is a {node.op_type}, not a MatMul"
    weight = shapes.get(node.input[1])
    if weight is None or len(weight) != 2:
        return f"the right factor of {node.name} is no constant matrix"
    readers = _readers(graph, node.output[0])
    if len(readers) != 1 or readers[0].op_type != "Add":
        return f"{node.name} is not read by one Add alone"
    if node.output[0] in {value.name for value in graph.output}:
        return f"{node.name} gives an output of the graph"
    other = [name for name in readers[0].input if name != node.output[0]]
    if [shapes.get(name) for name in other] != [weight[1:]]:
        return f"what is added to {node.name} is no constant of {weight[1]} values"
    return None


def _readers(graph: onnx.GraphProto, tensor: str) -> list[onnx.NodeProto]:
    return [node for node in graph.node if tensor in node.input]
