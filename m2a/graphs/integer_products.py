"""Graph rewrite for a CPU: quantised products as the integer products that they stand for.

    DQ(Q(Reshape(Gather(DQ(Q(x)), rows)))) · DQ(W₈) + b
      →  MatMulIntegerToFloat(Reshape(Gather(Q(x), rows)), W₈, scales, b)

`MatMulIntegerToFloat` is an operator of ONNX Runtime's own: it multiplies bytes, sums in 32 bits,
which is exact, and scales the sum. ONNX Runtime finds it in Q/DQ pairs by itself, but not where
many slices of sites (`m2a.graphs.sliced_gathers`) read from one pair, it adds the bias in a pass of
its own, and where a gate splits the product, it copies all of it. Here the operator is written out:
with its bias, and for a gate as two products, each of half the columns.

An activation is stored as q + 128 in an unsigned byte, as ONNX Runtime does by itself: its fastest
kernels multiply unsigned by signed bytes. The row of zeros that stands for absent sites is added
after rounding, as a row of 128, so that a quarter of the bytes is copied.

The result is what ONNX Runtime makes of the Q/DQ pairs, bit for bit: the sums are exact, each is
scaled by the same number, and the bias is added to that. Against the pairs computed one by one in
FP32, as ONNX defines them, only the rounding of FP32 sums differs.

TensorRT does not know the operator, and the contract forbids it: so this is no graph of a bundle,
but made where one is opened on a CPU, from a graph that passed the check.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.graphs.operations import Network, Operation

__all__ = ["DOMAIN", "PRODUCT", "fuse_products"]

DOMAIN, PRODUCT = "com.microsoft", "MatMulIntegerToFloat"
"""ONNX Runtime's operator. Inputs: A, B, scale of A, scales of B's columns, zero point of A, zero
point of B (absent: 0), bias."""

_PREFIX = "integer/"
"""Of the names of new tensors. A graph in which it stands anywhere stays as it is."""

_ZERO_POINT = 128
_QUANTIZED = b"QuantizeLinear"

_MATMUL = ("MatMul", 2, 1)
"""Operator, inputs, outputs."""


def fuse_products(graph: bytes) -> bytes:
    """Rewrites the quantised products of a graph.

    Args:
        graph: a serialised model that passed `m2a.graphs.contract.check_serialised`.

    Returns:
        The serialised model. What is not exactly such a product stays as it is. A graph without
        one, or whose nodes are not in order, is returned itself.

    Raises:
        WireError: the bytes are no model.
    """
    if _QUANTIZED not in graph or _PREFIX.encode() in graph:
        return graph
    network = Network(graph)
    if not network.in_order():
        return graph
    pattern, written = _Pattern(network), _Written(network)
    operations: list[Operation] = []
    replaced: set[str] = set()
    for operation in network.operations:
        product = pattern.match(operation)
        if product is not None:
            operations += written.operations(product)
            replaced |= product.replaced
        elif not replaced & set(operation.outputs):
            operations.append(operation)
    if not replaced:
        return graph
    return network.with_operations(_needed(operations, network.outputs), written.constants)


@dataclass(frozen=True, kw_only=True)
class _Product:
    """A quantised product that the rewrite applies to.

    Attributes:
        rows: what is rounded and multiplied.
        moves: operations that move elements between rounding and multiplying; none, or a Gather
            and a Reshape.
        scale: name of the rows' scale.
        weight: name of W₈; `scales` and `bias` likewise.
        results: the product with its bias, or its halves.
        replaced: tensors that the operations in the graph make, and the new ones make instead, or
            that nothing reads any more.
    """

    rows: str
    moves: tuple[Operation, ...]
    scale: str
    weight: str
    scales: str
    bias: str
    results: tuple[str, ...]
    replaced: frozenset[str]


class _Pattern:
    """Finds quantised products. What it answers None to stays in the graph as it is."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._makers = {name: one for one in network.operations for name in one.outputs}
        self._readers: dict[str, list[Operation]] = {}
        for one in network.operations:
            for name in one.inputs:
                self._readers.setdefault(name, []).append(one)

    def match(self, operation: Operation) -> _Product | None:
        """Takes a product apart."""
        if (operation.operator, *map(len, (operation.inputs, operation.outputs))) != _MATMUL:
            return None
        pair, weight = self._pair(operation.inputs[0]), self._weight(operation.inputs[1])
        (product,) = operation.outputs
        added = self._only_reader(product, "Add")
        if pair is None or weight is None or added is None or len(added.outputs) != 1:
            return None
        width = len(self._array(weight.inputs[1], np.float32, rank=1))
        bias = next((name for name in added.inputs if name != product), "")
        if self._array(bias, np.float32, rank=1).shape != (width,):
            return None
        rows, moves = self._gathered(pair)
        (result,) = added.outputs
        halves = self._halves(result) if moves and width % 2 == 0 else ()
        results = halves or (result,)
        return _Product(
            rows=rows,
            moves=moves,
            scale=pair.inputs[1],
            weight=weight.inputs[0],
            scales=weight.inputs[1],
            bias=bias,
            results=results,
            replaced=frozenset({product, result, *results}),
        )

    def _pair(self, tensor: str) -> Operation | None:
        """The first of two nodes that round a tensor, with one scale and the zero point 0."""
        back = self._made(tensor, "DequantizeLinear", inputs=3)
        there = None if back is None else self._made(back.inputs[0], "QuantizeLinear", inputs=3)
        if back is None or there is None or back.attributes or there.attributes:
            return None
        scale, zero = there.inputs[1:]
        same = back.inputs[1:] == (scale, zero)
        known = self._array(scale, np.float32, rank=0).size == 1
        stored = self._array(zero, np.int8, rank=0).size == 1
        return there if same and known and stored and self._network.is_zero(zero) else None

    def _weight(self, tensor: str) -> Operation | None:
        """The node that gives W in FP32: int8 [K, N], with a scale a column and zero points 0."""
        node = self._made(tensor, "DequantizeLinear", inputs=3)
        if node is None or len(node.attributes) != 1 or node.integer("axis") != 1:
            return None
        stored = self._array(node.inputs[0], np.int8, rank=2)
        scales = self._array(node.inputs[1], np.float32, rank=1)
        zeros = self._array(node.inputs[2], np.int8, rank=1)
        whole = stored.size > 0 and stored.shape[1:] == scales.shape == zeros.shape
        return node if whole and self._network.is_zero(node.inputs[2]) else None

    def _gathered(self, pair: Operation) -> tuple[str, tuple[Operation, ...]]:
        """Follows rows that were rounded before they were gathered to where they were not."""
        reshape = self._made(pair.inputs[0], "Reshape", inputs=2)
        shape = None if reshape is None else self._network.integers(reshape.inputs[1])
        gather = None if reshape is None else self._made(reshape.inputs[0], "Gather", inputs=2)
        before = None if gather is None else self._pair(gather.inputs[0])
        if (
            reshape is None
            or gather is None
            or before is None
            or len(shape or ()) != 2
            or gather.integer("axis") != 0
            or before.inputs[1:] != pair.inputs[1:]
        ):
            return pair.inputs[0], ()
        return before.inputs[0], (gather, reshape)

    def _halves(self, tensor: str) -> tuple[str, ...]:
        """The halves of a matrix's columns, where nothing else of it is read."""
        split = self._only_reader(tensor, "Split")
        if split is None or len(split.inputs) != 1 or len(split.outputs) != 2:
            return ()
        return split.outputs if split.integer("axis") == 1 else ()

    def _made(self, tensor: str, operator: str, *, inputs: int) -> Operation | None:
        found = self._makers.get(tensor)
        fits = found is not None and found.operator == operator and len(found.inputs) == inputs
        return found if fits else None

    def _only_reader(self, tensor: str, operator: str) -> Operation | None:
        readers = self._readers.get(tensor, [])
        if len(readers) != 1 or tensor in self._network.outputs:
            return None
        return readers[0] if readers[0].operator == operator else None

    def _array(self, name: str, dtype: type[np.generic], *, rank: int) -> NDArray[Any]:
        """A constant; empty, of as many dimensions, where there is none of that kind."""
        array = self._network.array(name)
        fits = array is not None and array.dtype == dtype and array.ndim == rank
        return array if array is not None and fits else np.empty((0,) * max(rank, 1), dtype)


class _Written:
    """Writes integer products.

    Attributes:
        constants: what they read, by name.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._makers = {name: one for one in network.operations for name in one.outputs}
        self._rounded: set[str] = set()
        self._names: dict[tuple[str | int, ...], str] = {}
        self._zero = self._name("zero point")
        self.constants: dict[str, NDArray[Any]] = {self._zero: np.array(_ZERO_POINT, np.uint8)}

    def _name(self, *what: str | int) -> str:
        """The name of a new tensor, a number: put together from names, two could be one."""
        return self._names.setdefault(what, f"{_PREFIX}{len(self._names)}")

    def operations(self, product: _Product) -> Iterator[Operation]:
        """A product's operations, in their order."""
        stored = self._name("rounded", product.rows, product.scale)
        if stored not in self._rounded:
            self._rounded.add(stored)
            yield from self._round(product.rows, product.scale, stored)
        for move in product.moves:
            moved = self._name("moved", move.outputs[0], product.results[0])
            yield move.renamed({move.inputs[0]: stored, move.outputs[0]: moved})
            stored = moved
        for number, result in enumerate(product.results):
            weight, scales, bias = (
                self._columns(name, number, len(product.results))
                for name in (product.weight, product.scales, product.bias)
            )
            yield Operation(
                operator=PRODUCT,
                inputs=(stored, weight, product.scale, scales, self._zero, "", bias),
                outputs=(result,),
                domain=DOMAIN,
            )

    def _round(self, tensor: str, scale: str, stored: str) -> Iterator[Operation]:
        """Rounds a tensor; a row of zeros at its end is put there afterwards."""
        joined = self._makers.get(tensor)
        ends = None if joined is None else self._zeros_at_the_end(joined)
        if joined is None or ends is None:
            yield self._quantized(tensor, scale, stored)
            return
        present, absent = self._name("present", stored), self._name("absent", joined.inputs[1])
        if absent not in self.constants:
            self.constants[absent] = np.full(ends.shape, _ZERO_POINT, np.uint8)
        yield self._quantized(joined.inputs[0], scale, present)
        yield Operation(
            operator="Concat",
            inputs=(present, absent),
            outputs=(stored,),
            attributes=joined.attributes,
        )

    def _zeros_at_the_end(self, joined: Operation) -> NDArray[Any] | None:
        if joined.operator != "Concat" or len(joined.inputs) != 2 or joined.integer("axis") != 0:
            return None
        zeros = self._network.array(joined.inputs[1])
        row = zeros is not None and zeros.ndim == 2 and self._network.is_zero(joined.inputs[1])
        return zeros if row else None

    def _quantized(self, tensor: str, scale: str, stored: str) -> Operation:
        inputs = (tensor, scale, self._zero)
        return Operation(operator="QuantizeLinear", inputs=inputs, outputs=(stored,))

    def _columns(self, name: str, number: int, parts: int) -> str:
        """One of some equal parts of a constant's columns, which becomes a constant itself."""
        array = self._network.array(name)
        if parts == 1 or array is None:
            return name
        part = self._name("columns", name, number)
        self.constants[part] = np.split(array, parts, axis=-1)[number]
        return part


def _needed(operations: Iterable[Operation], outputs: Iterable[str]) -> list[Operation]:
    """Leaves out what nothing reads."""
    read, kept = set(outputs), []
    for operation in reversed(list(operations)):
        if read & set(operation.outputs):
            kept.append(operation)
            read |= set(operation.inputs)
    return kept[::-1]
