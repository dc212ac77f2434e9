"""Graph rewrite: products in INT8.

    MatMul(Reshape(Gather(x, rows)), W)
      →  MatMul(DQ(Q(Reshape(Gather(DQ(Q(x)), rows)))), DQ(W₈))
    MatMul(x, W)
      →  MatMul(DQ(Q(x)), DQ(W₈))

The first are the convolutions, over gathered rows. The second are the 1×1 convolutions whose result
is added to features, and goes nowhere else: what they add is small beside what it is added to. So
the first one, of the picture's own values, the displacements and the final residual stay in FP32.

Of gathered rows both pairs have one scale. Gathering and reshaping move elements and change none,
so that they commute with Q and DQ, and the second pair rounds what is rounded already: it changes
nothing. A runtime can therefore gather the INT8 rows themselves, a quarter of the bytes, and
multiply them as they come. A row that is absent reads as zeros, which INT8 holds exactly, since the
zero point is 0. W has a scale for each output channel; the bias stays a float Add behind it.

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


def products(graph: onnx.GraphProto) -> dict[str, str]:
    """The products that the rewrite applies to: name of the weight → the tensor that is rounded.

    That is the one which is gathered from, where rows are gathered, and else the left factor.
    """
    readers = _Readers(graph)
    found = {}
    for node in graph.node:
        if node.op_type == "MatMul" and readers.refusal(node) is None:
            gather = readers.gather_of(node)
            found[node.input[1]] = (node if gather is None else gather).input[0]
    return found


def refusal(graph: onnx.GraphProto, node: onnx.NodeProto) -> str | None:
    """Returns why the rewrite leaves a node alone, or None where it applies."""
    return _Readers(graph).refusal(node)


def quantize_products(
    model: onnx.ModelProto, ranges: Mapping[str, float], *, keep: Collection[str] = ()
) -> int:
    """Puts products into INT8.

    Args:
        model: changed in place.
        ranges: tensor → the largest |x| to keep, of each that `products` names.
        keep: names of weights whose products stay in FP32.

    Returns:
        The number of products rewritten.

    Raises:
        KeyError: a tensor has no range.
    """
    graph = model.graph
    wanted = {name: x for name, x in products(graph).items() if name not in keep}
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    tensors, readers = QuantizedTensors(graph), _Readers(graph)
    multiplied = [n for n in graph.node if n.op_type == "MatMul" and n.input[1] in wanted]
    gathers = {gather.name for node in multiplied if (gather := readers.gather_of(node))}
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
    return len(multiplied)


class _Readers:
    """Who makes and who reads a tensor of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._makers: dict[str, onnx.NodeProto] = {
            output: node for node in graph.node for output in node.output
        }
        self._constants = {tensor.name for tensor in graph.initializer}
        self._outputs = {value.name for value in graph.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def gather_of(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The Gather whose rows a product multiplies; None where it multiplies other ones."""
        reshape = self._makers.get(node.input[0])
        gather = None if reshape is None else self._makers.get(reshape.input[0])
        if reshape is None or gather is None or reshape.op_type != "Reshape":
            return None
        return gather if gather.op_type == "Gather" else None

    def refusal(self, node: onnx.NodeProto) -> str | None:
        """See the function of that name."""
        if node.op_type != "MatMul":
            return f"{node.name} is a {node.op_type}, not a MatMul"
        if node.input[1] not in self._constants:
            return f"the right factor of {node.name} is no constant"
        if len(self._readers[node.input[1]]) > 1:
            return f"{node.input[1]}, the weight of {node.name}, has other readers"
        gather = self.gather_of(node)
        if gather is not None:
            rows = (node.input[0], gather.output[0])
            if not all(self._only_reader(name) for name in rows):
                return f"the rows of {node.name} have other readers"
        elif not self._is_added_to_features(node.output[0]):
            return (
                f"{node.name} multiplies no gathered rows, and its result is not added to "
                "features alone"
            )
        return None

    def _only_reader(self, tensor: str) -> onnx.NodeProto | None:
        readers = self._readers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self._outputs else None

    def _is_added_to_features(self, tensor: str) -> bool:
        """Follows a product past its bias, and past reshaping and gathering its rows."""
        while (reader := self._only_reader(tensor)) is not None:
            if reader.op_type == "Add":
                (other, *_) = [name for name in reader.input if name != tensor] or [""]
                if other and other not in self._constants:
                    return True
            elif reader.op_type not in ("Gather", "Reshape") or reader.input[0] != tensor:
                return False
            tensor = reader.output[0]
        return False
