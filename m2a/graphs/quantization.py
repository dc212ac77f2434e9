"""The numbers of symmetric INT8, and the Q/DQ nodes that state them in a graph.

    q = clip(round(x / s), -128, 127)        x ≈ s · q        (zero point 0)

An activation has one scale s, a weight one for each output channel. A pair QuantizeLinear,
DequantizeLinear gives the rounded x in FP32: a runtime that knows INT8 computes what stands
between two pairs in integers, any other computes the same numbers slowly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

LARGEST = 127
"""The largest |q|: -128 is left out, so that the range is symmetric."""

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Of a tensor that is zero throughout."""


def activation_scale(largest: float) -> float:
    """The scale of a tensor of which |x| ≤ largest is to be kept.

    Raises:
        ValueError: the bound is negative or not finite.
    """
    if not 0 <= largest < np.inf:
        raise ValueError(f"expected a finite bound of |x|, found {largest}")
    return max(largest / LARGEST, SMALLEST_SCALE)


def quantize_weights(
    weights: NDArray[np.float32], *, axis: int, largest: int = LARGEST
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rounds weights, with one scale for each index along an axis.

    Args:
        weights: f32 of any shape.
        axis: of the output channels.
        largest: the |q| that the largest weight of a channel gets, at most 127.

    Returns:
        int8 of the same shape, and f32 [C], the scales.
    """
    others = tuple(n for n in range(weights.ndim) if n != axis)
    scales = np.maximum(np.abs(weights).max(axis=others) / largest, SMALLEST_SCALE)
    scales = scales.astype(np.float32)
    shape = [1] * weights.ndim
    shape[axis] = -1
    rounded = np.clip(np.rint(weights / scales.reshape(shape)), -largest, largest)
    return rounded.astype(np.int8), scales


def fake_quantize(x: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """What a pair Q, DQ makes of a tensor: the slow definition.

    Args:
        x: f32 of any shape.
        scale: of the tensor.
    """
    s = np.float32(scale)
    rounded: NDArray[np.float32] = np.clip(np.rint(x / s), -128, 127).astype(np.float32) * s
    return rounded


class QuantizedTensors:
    """Adds Q/DQ pairs and INT8 weights to a graph, each pair and each constant once.

    The nodes are returned, to be put where they belong; constants go into the graph at once.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name for tensor in graph.initializer}
        self._rounded: set[str] = set()

    def pair(
        self, tensor: str, *, scale_of: str, scale: float, label: str
    ) -> tuple[str, list[onnx.NodeProto]]:
        """A pair on a tensor.

        Args:
            tensor: to be rounded.
            scale_of: the tensor whose scale it is; pairs of one scale share the constant.
            scale: of the pair.
            label: makes the names unique.

        Returns:
            The rounded tensor's name, and the two nodes; none where they were made before.
        """
        rounded, stored = f"{tensor}_{label}", f"{tensor}_{label}_int8"
        if rounded in self._rounded:
            return rounded, []
        self._rounded.add(rounded)
        constants = [
            self._constant(f"{scale_of}_scale", np.float32(scale)),
            self._constant("int8_zero", np.int8(0)),
        ]
        return rounded, [
            helper.make_node("QuantizeLinear", [tensor, *constants], [stored], f"{rounded}_q"),
            helper.make_node("DequantizeLinear", [stored, *constants], [rounded], f"{rounded}_dq"),
        ]

    def weights(
        self, name: str, values: NDArray[np.float32], *, axis: int, largest: int = LARGEST
    ) -> tuple[str, onnx.NodeProto]:
        """Weights stored in INT8; see `quantize_weights`.

        Returns:
            The name of the weights in FP32 again, and the node that gives them.
        """
        rounded, scales = quantize_weights(values, axis=axis, largest=largest)
        inputs = [
            self._constant(f"{name}_int8", rounded),
            self._constant(f"{name}_scales", scales),
            self._constant(f"{name}_zeros", np.zeros(len(scales), np.int8)),
        ]
        output = f"{name}_rounded"
        node = helper.make_node("DequantizeLinear", inputs, [output], f"{output}_dq", axis=axis)
        return output, node

    def _constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        if name not in self._constants:
            self._constants.add(name)
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Puts other nodes into a graph, and drops the constants and types that went with the old."""
    kept = list(nodes)
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    del graph.value_info[:]
