"""The operations of a serialised graph, to rewrite it where the package `onnx` is not installed.

A rewrite for one execution provider happens where a bundle is opened, on a Jetson or in a command
that should answer at once; `onnx` is not needed there and takes longer to import than all of m2a.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.graphs import proto_fields as fields
from m2a.graphs.wire import Message, written

__all__ = ["Network", "Operation", "integer_attribute"]

MOST_DIMENSIONS = 8
"""Of a constant that is read. A graph of m2a has four at most; a crafted one could have any."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A node of a graph.

    Attributes:
        operator: its name in ONNX.
        inputs: names of tensors.
        outputs: likewise.
        attributes: each serialised.
        domain: of the operator; empty for ONNX's own.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[bytes | memoryview, ...] = ()
    domain: str = ""

    @classmethod
    def read(cls, node: Message) -> Operation:
        """Takes a serialised node apart."""
        return cls(
            operator=node.text(fields.Node.OP_TYPE),
            inputs=tuple(node.texts(fields.Node.INPUT)),
            outputs=tuple(node.texts(fields.Node.OUTPUT)),
            attributes=tuple(node.parts(fields.Node.ATTRIBUTE)),
            domain=node.text(fields.Node.DOMAIN),
        )

    def serialised(self) -> bytes:
        """Returns the node's bytes; it is named after its first output."""
        return b"".join(
            (
                written(fields.Node.INPUT, *self.inputs),
                written(fields.Node.OUTPUT, *self.outputs),
                written(fields.Node.NAME, f"node_{self.outputs[0]}"),
                written(fields.Node.OP_TYPE, self.operator),
                written(fields.Node.ATTRIBUTE, *self.attributes),
                written(fields.Node.DOMAIN, self.domain),
            )
        )

    def integer(self, attribute: str) -> int:
        """An integer attribute; 0, ONNX's default of an axis, where it is absent or 0."""
        found = {read.text(fields.Attribute.NAME): read for read in map(Message, self.attributes)}
        value = found[attribute].number(fields.Attribute.INTEGER) if attribute in found else 0
        return value - 2**64 if value >= 2**63 else value

    def renamed(self, names: Mapping[str, str]) -> Operation:
        """The same operation on other tensors."""
        return replace(
            self,
            inputs=tuple(names.get(name, name) for name in self.inputs),
            outputs=tuple(names.get(name, name) for name in self.outputs),
        )


def integer_attribute(name: str, value: int) -> bytes:
    """Serialises an attribute of a node, not negative."""
    return b"".join(
        (
            written(fields.Attribute.NAME, name),
            written(fields.Attribute.INTEGER, value),
            written(fields.Attribute.TYPE, fields.Attribute.TYPE_INT),
        )
    )


class Network:
    """A serialised model as a list of operations.

    Args:
        content: a model that passed `m2a.graphs.contract.check_serialised`.

    Attributes:
        operations: in the graph's order, in which each follows those it reads from.
        weights: name → the constant's message. A default of one of the graph's inputs is no
            constant: whoever runs the graph may give another value.
        outputs: the names of the graph's outputs.

    Raises:
        WireError: the bytes are no model.
    """

    def __init__(self, content: bytes) -> None:
        self._model = Message(content)
        self._graph = self._model.message(fields.Model.GRAPH)
        self.operations = [Operation.read(node) for node in self._graph.messages(fields.Graph.NODE)]
        self.outputs = self._ports(fields.Graph.OUTPUT)
        inputs = self._ports(fields.Graph.INPUT)
        tensors = self._graph.messages(fields.Graph.INITIALIZER)
        named = ((tensor.text(fields.Tensor.NAME), tensor) for tensor in tensors)
        self.weights = {name: tensor for name, tensor in named if name not in inputs}
        self._ranks = {
            name: tensor.count(fields.Tensor.DIMS) for name, tensor in self.weights.items()
        }
        self._zeros: dict[str, bool] = {}

    def _ports(self, field: int) -> set[str]:
        return {value.text(fields.Value.NAME) for value in self._graph.messages(field)}

    def in_order(self) -> bool:
        """Whether no operation reads what itself or a later one makes."""
        read: set[str] = set()
        for operation in self.operations:
            read.update(operation.inputs)
            if not read.isdisjoint(operation.outputs):
                return False
        return True

    def rank(self, name: str) -> int | None:
        """The number of dimensions of a constant; None where `name` is none."""
        return self._ranks.get(name)

    def array(self, name: str) -> NDArray[Any] | None:
        """A constant; None where `name` is none, is empty, or is not stored once, as raw bytes."""
        tensor = self.weights.get(name)
        if tensor is None or self._ranks[name] > MOST_DIMENSIONS:
            return None
        dtype = _DTYPES.get(tensor.number(fields.Tensor.DATA_TYPE))
        stored = tensor.parts(fields.Tensor.RAW_DATA)
        if dtype is None or len(stored) != 1 or any(field in tensor for field in _OTHER_DATA):
            return None
        shape = tensor.numbers(fields.Tensor.DIMS)
        if not stored[0] or prod(shape) * dtype.itemsize != len(stored[0]):
            return None
        return np.frombuffer(stored[0], dtype).reshape(shape)

    def is_zero(self, name: str) -> bool:
        """Whether `name` is a constant, as `array` gives it, that is zero everywhere.

        It is looked at once: a crafted graph could ask for a large one any number of times.
        """
        if name not in self._zeros:
            array = self.array(name)
            self._zeros[name] = array is not None and not array.any()
        return self._zeros[name]

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A constant vector of int64; None where `name` is none, or is stored otherwise."""
        array = self.array(name)
        if array is None or array.dtype != np.int64 or array.ndim != 1:
            return None
        return tuple(array.tolist())

    def with_operations(
        self, operations: Iterable[Operation], constants: Mapping[str, NDArray[Any]]
    ) -> bytes:
        """Serialises the model with other operations.

        Args:
            operations: all of them, each after those it reads from.
            constants: names → arrays that are added to the weights, of a type in `_DTYPES`.
        """
        listed = list(operations)
        graph = self._graph.replaced(fields.Graph.NODE, [one.serialised() for one in listed])
        added = [_tensor(name, values) for name, values in constants.items()]
        model = self._model.replaced(
            fields.Model.GRAPH, [graph + written(fields.Graph.INITIALIZER, *added)]
        )
        imported = {
            entry.text(fields.Opset.DOMAIN)
            for entry in self._model.messages(fields.Model.OPSET_IMPORT)
        }
        missing = {one.domain for one in listed} - imported - {""}
        return model + written(fields.Model.OPSET_IMPORT, *map(_opset, sorted(missing)))


_DTYPES: Mapping[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("u1"),
    3: np.dtype("i1"),
    fields.Tensor.TYPE_INT64: np.dtype("<i8"),
}
"""ONNX's number of a type → NumPy's."""

_OTHER_DATA = (
    *(fields.Tensor.SEGMENT, fields.Tensor.FLOATS, fields.Tensor.INT32S, fields.Tensor.STRINGS),
    *(fields.Tensor.INT64S, fields.Tensor.DOUBLES, fields.Tensor.UINT64S),
)
"""Where a tensor's values may stand beside its raw bytes: a constant that has both is not read."""


def _tensor(name: str, values: NDArray[Any]) -> bytes:
    (data_type,) = (number for number, dtype in _DTYPES.items() if dtype == values.dtype)
    return b"".join(
        (
            written(fields.Tensor.DIMS, *values.shape),
            written(fields.Tensor.DATA_TYPE, data_type),
            written(fields.Tensor.NAME, name),
            written(fields.Tensor.RAW_DATA, values.astype(_DTYPES[data_type]).tobytes()),
        )
    )


def _opset(domain: str) -> bytes:
    return written(fields.Opset.DOMAIN, domain) + written(fields.Opset.VERSION, 1)
