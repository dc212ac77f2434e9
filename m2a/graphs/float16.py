"""Graph rewrite: a strongly typed FP16 variant of an FP32 graph (DESIGN section 6).

TensorRT 11 has no flag that asks for half precision: a network computes in the types that the
ONNX graph states. So every node is given one of two types here, and a Cast stands wherever a
tensor changes hands between them. In FP32 stay

- the graph's inputs and outputs,
- norms, whose sums of squares leave the range of FP16 first,
- the trajectories, from the product that predicts them to the bilinear weights that follow:
  a coordinate in FP16 is off by a sixteenth of a site as soon as it exceeds 128,
- the product that gives the residual, and the sigmoid.

All else is FP16: products, gates and gathers, which are the cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from m2a.errors import PrecisionError

LARGEST = float(np.finfo(np.float16).max)
"""65504: a weight beyond it has no value in FP16."""

FP32_OPERATORS = frozenset({"LayerNormalization", "Sigmoid"})
"""Operators that are never computed in FP16."""

_TYPES: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.FLOAT16: np.dtype(np.float16),
}


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the FP16 variant of a graph that keeps the contract.

    Args:
        model: `mask` or `restore` in FP32, with its weights; not changed.

    Returns:
        The same graph with the same ports: float32 and int32 at its border, products in FP16.

    Raises:
        PrecisionError: weights lie outside FP16's range, or are not finite; all are named.
    """
    variant = onnx.ModelProto()
    variant.CopyFrom(model)
    Rewriting(variant).run()
    onnx.checker.check_model(variant, full_check=True)
    return variant


def fp32_nodes(graph: onnx.GraphProto) -> set[str]:
    """Returns the names of the nodes that stay in FP32."""
    producers = {output: node for node in graph.node for output in node.output}
    kept = {node.name for node in graph.node if node.op_type in FP32_OPERATORS}
    ends: set[str] = set()
    for output in graph.output:
        ends |= _back_to_the_product(producers, output.name)
    return kept | ends | _trajectory_nodes(graph, ends)


def _back_to_the_product(producers: dict[str, onnx.NodeProto], output: str) -> set[str]:
    """The nodes from the last matrix product to an output; a Sigmoid alone where it ends one."""
    found: set[str] = set()
    waiting = [output]
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or node.name in found:
            continue
        found.add(node.name)
        if node.op_type not in {"MatMul", "Gemm", "Sigmoid"}:
            waiting += node.input
    return found


def _trajectory_nodes(graph: onnx.GraphProto, ends: set[str]) -> set[str]:
    """The nodes that compute with displacements alone: no features among their inputs."""
    constants = {tensor.name for tensor in graph.initializer}
    types = float_tensors(graph)
    carried = {
        output
        for node in graph.node
        if node.name in ends and node.op_type not in {"MatMul", "Gemm", "Sigmoid"}
        for output in node.output
    }
    found: set[str] = set()
    for node in graph.node:  # in topological order
        floats = [n for n in node.input if n in types and n not in constants]
        if floats and all(name in carried for name in floats):
            found.add(node.name)
            carried |= set(node.output)
    return found


def float_tensors(graph: onnx.GraphProto) -> dict[str, int]:
    """Returns the floating-point tensors of a graph, by name, with their element types."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*inferred.input, *inferred.value_info, *inferred.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name: kind for name, kind in types.items() if kind in _TYPES}


class Rewriting:
    """One pass over a graph in topological order, that inserts casts as they are needed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._kept = fp32_nodes(model.graph)
        self._types = float_tensors(model.graph)
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._converted: dict[tuple[str, int], str] = {}

    def run(self) -> None:
        """Rewrites the graph in place."""
        self._refuse_weights_out_of_range()
        outputs = {value.name for value in self._graph.output}
        for node in self._graph.node:
            kind = TensorProto.FLOAT if node.name in self._kept else TensorProto.FLOAT16
            node.input[:] = [self._as(name, kind) for name in node.input]
            self._nodes.append(node)
            for name in node.output:
                if name in self._types and node.op_type != "Cast":
                    self._types[name] = kind
                if name in outputs and name in self._types:
                    assert kind == TensorProto.FLOAT, f"{node.name} ends the graph in FP16"
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        del self._graph.value_info[:]  # their types were those of the FP32 graph
        used = {name for node in self._nodes for name in node.input}
        weights = [tensor for name, tensor in self._weights.items() if name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(weights)

    def _refuse_weights_out_of_range(self) -> None:
        named = []
        for name, tensor in self._weights.items():
            if name not in self._types or not self._wanted_in_half(name):
                continue
            largest = float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))
            if not largest <= LARGEST:
                named.append(f"{name} (|w| up to {largest:.3g})")
        if named:
            raise PrecisionError(
                f"FP16 holds numbers up to {LARGEST:.0f}; beyond it are the weights "
                f"{', '.join(named)}. Keep this model in FP32, or rescale it"
            )

    def _wanted_in_half(self, name: str) -> bool:
        readers: Iterable[onnx.NodeProto] = (n for n in self._graph.node if name in n.input)
        return any(node.name not in self._kept for node in readers)

    def _as(self, name: str, kind: int) -> str:
        """The name of a tensor in the wanted type; a constant is converted, else a Cast is put."""
        if name not in self._types or self._types[name] == kind:
            return name
        if (name, kind) not in self._converted:
            suffix = "fp16" if kind == TensorProto.FLOAT16 else "fp32"
            converted = f"{name}_{suffix}"
            self._converted[name, kind] = converted
            self._types[converted] = kind
            if name in self._weights:
                array = numpy_helper.to_array(self._weights[name]).astype(_TYPES[kind])
                self._weights[converted] = numpy_helper.from_array(array, converted)
            else:
                self._nodes.append(
                    helper.make_node("Cast", [name], [converted], f"cast_{converted}", to=kind)
                )
        return self._converted[name, kind]
