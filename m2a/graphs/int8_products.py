"""Graph rewrite: products over gathered rows in INT8.

    MatMul(Reshape(Gather(x, rows)), W)
      →  MatMul(DQ(Q(Reshape(Gather(DQ(Q(x)), rows)))), DQ(W₈))

with one scale for both pairs. Gathering and reshaping move elements and change none, so that they
commute with Q and DQ, and the second pair rounds what is rounded already: it changes nothing. A
runtime can therefore gather the INT8 rows themselves, a quarter of the bytes, and multiply them as
they come. A row that is absent reads as zeros, which INT8 holds exactly, since the zero point is 0.
W has a scale for each output channel; the bias stays a float Add behind it.

Where a processor has no INT8 dot product (VNNI), ONNX Runtime multiplies by `vpmaddubsw`, which
adds two products of an unsigned and a signed byte in 16 bits and saturates. |W₈| ≤ 64 keeps
2 · 255 · 64 below 2¹⁵, so that the result is the same on every processor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx
from onnx import numpy_helper

from m2a.graphs.quantization import QuantizedTensors, activation_scale, replace_nodes

LARGEST_WEIGHT = 64


def gathered_products(graph: onnx.GraphProto) -> dict[str, str]:
    """The products that the rewrite applies to: name of the weight → the tensor it gathers from."""
    readers = _Readers(graph)
    found = {}
    for node in graph.node:
        if node.op_type == "MatMul" and readers.refusal(node) is None:
            found[node.input[1]] = readers.gather_of(node).input[0]
    return found


def refusal(graph: onnx.GraphProto, node: onnx.NodeProto) -> str | None:
    """Returns why the rewrite leaves a node alone, or None where it applies."""
    return _Readers(graph).refusal(node)


def quantize_products(
    model: onnx.ModelProto, ranges: Mapping[str, float], *, keep: Collection[str] = ()
) -> int:
    """Puts the products over gathered rows into INT8.

    Args:
        model: changed in place.
        ranges: tensor → the largest |x| to keep, of each that `gathered_products` names.
        keep: names of weights whose products stay in FP32.

    Returns:
        The number of products rewritten.

    Raises:
        KeyError: a tensor has no range.
    """
    graph = model.graph
    wanted = {name: x for name, x in gathered_products(graph).items() if name not in keep}
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    tensors, readers = QuantizedTensors(graph), _Readers(graph)
    products = [n for n in graph.node if n.op_type == "MatMul" and n.input[1] in wanted]
    gathers = {readers.gather_of(node).name: node for node in products}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.name in gathers:
            source = node.input[0]
            scale = activation_scale(ranges[source])
            node.input[0], pair = tensors.pair(
                source, scale_of=source, scale=scale, label="gathered"
            )
            nodes += pair
        elif node.op_type == "MatMul" and node.input[1] in wanted:
            source, name = wanted[node.input[1]], node.input[1]
            scale = activation_scale(ranges[source])
            node.input[0], pair = tensors.pair(
                node.input[0], scale_of=source, scale=scale, label="multiplied"
            )
            node.input[1], stored = tensors.weights(
                name, weights[name], axis=1, largest=LARGEST_WEIGHT
            )
            nodes += [*pair, stored]
        nodes.append(node)
    replace_nodes(graph, nodes)
    return len(products)


class _Readers:
    """Who makes and who reads a tensor of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._makers: dict[str, onnx.NodeProto] = {
            output: node for node in graph.node for output in node.output
        }
        self._constants = {tensor.name for tensor in graph.initializer}
        self._outputs = {value.name for value in graph.output}
        self._reads: dict[str, int] = {}
        for node in graph.node:
            for name in node.input:
                self._reads[name] = self._reads.get(name, 0) + 1

    def gather_of(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """The Gather of a product that the rewrite applies to."""
        made: onnx.NodeProto = self._makers[self._makers[node.input[0]].input[0]]
        return made

    def refusal(self, node: onnx.NodeProto) -> str | None:
        """See the function of that name."""
        if node.op_type != "MatMul":
            return f"{node.name} is a {node.op_type}, not a MatMul"
        if node.input[1] not in self._constants:
            return f"the right factor of {node.name} is no constant"
        if self._reads[node.input[1]] > 1:
            return f"{node.input[1]}, the weight of {node.name}, has other readers"
        place = node
        for operator in ("Reshape", "Gather"):
            made = self._makers.get(place.input[0])
            if made is None or made.op_type != operator:
                return f"{node.name} does not multiply gathered rows"
            if self._reads[place.input[0]] > 1 or place.input[0] in self._outputs:
                return f"the rows of {node.name} have other readers"
            place = made
        return None
