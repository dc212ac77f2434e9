"""The operations of a serialised graph, to rewrite it where the package `onnx` is not installed.

A rewrite for one execution provider happens where a bundle is opened, on a Jetson or in a command
that should answer at once; `onnx` is not needed there and takes longer to import than all of m2a.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from m2a.graphs import proto_fields as fields
from m2a.graphs.wire import Message, written

__all__ = ["Network", "Operation", "integer_attribute"]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A node of a graph.

    Attributes:
        operator: its name in ONNX.
        inputs: names of tensors.
        outputs: likewise.
        attributes: each serialised.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[bytes | memoryview, ...] = ()

    @classmethod
    def read(cls, node: Message) -> Operation:
        """Takes a serialised node apart."""
        return cls(
            operator=node.text(fields.Node.OP_TYPE),
            inputs=tuple(node.texts(fields.Node.INPUT)),
            outputs=tuple(node.texts(fields.Node.OUTPUT)),
            attributes=tuple(node.parts(fields.Node.ATTRIBUTE)),
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
            )
        )

    def integer(self, attribute: str) -> int:
        """An integer attribute; 0, ONNX's default of an axis, where it is absent or 0."""
        found = {read.text(fields.Attribute.NAME): read for read in map(Message, self.attributes)}
        value = found[attribute].number(fields.Attribute.INTEGER) if attribute in found else 0
        return value - 2**64 if value >= 2**63 else value

    def renamed(self, names: Mapping[str, str]) -> Operation:
        """The same operation on other tensors."""
        return Operation(
            operator=self.operator,
            inputs=tuple(names.get(name, name) for name in self.inputs),
            outputs=tuple(names.get(name, name) for name in self.outputs),
            attributes=self.attributes,
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
        weights: name → the constant's message.
        outputs: the names of the graph's outputs.

    Raises:
        WireError: the bytes are no model.
    """

    def __init__(self, content: bytes) -> None:
        self._model = Message(content)
        self._graph = self._model.message(fields.Model.GRAPH)
        self.operations = [Operation.read(node) for node in self._graph.messages(fields.Graph.NODE)]
        self.weights = {
            tensor.text(fields.Tensor.NAME): tensor
            for tensor in self._graph.messages(fields.Graph.INITIALIZER)
        }
        self.outputs = {
            value.text(fields.Value.NAME) for value in self._graph.messages(fields.Graph.OUTPUT)
        }

    def rank(self, name: str) -> int | None:
        """The number of dimensions of a constant; None where `name` is none."""
        tensor = self.weights.get(name)
        return None if tensor is None else tensor.count(fields.Tensor.DIMS)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A constant vector of int64; None where `name` is none, or is stored otherwise."""
        tensor = self.weights.get(name, Message(b""))
        if (
            tensor.number(fields.Tensor.DATA_TYPE) != fields.Tensor.TYPE_INT64
            or fields.Tensor.RAW_DATA not in tensor
        ):
            return None
        (raw, *_) = tensor.parts(fields.Tensor.RAW_DATA)
        return struct.unpack(f"<{len(raw) // 8}q", raw[: len(raw) // 8 * 8])

    def with_operations(
        self, operations: Iterable[Operation], constants: Mapping[str, Sequence[int]]
    ) -> bytes:
        """Serialises the model with other operations.

        Args:
            operations: all of them, each after those it reads from.
            constants: names → vectors of int64 that are added to the weights.
        """
        graph = self._graph.replaced(fields.Graph.NODE, [one.serialised() for one in operations])
        added = [_vector(name, values) for name, values in constants.items()]
        return self._model.replaced(
            fields.Model.GRAPH, [graph + written(fields.Graph.INITIALIZER, *added)]
        )


def _vector(name: str, values: Sequence[int]) -> bytes:
    return b"".join(
        (
            written(fields.Tensor.DIMS, len(values)),
            written(fields.Tensor.DATA_TYPE, fields.Tensor.TYPE_INT64),
            written(fields.Tensor.NAME, name),
            written(fields.Tensor.RAW_DATA, struct.pack(f"<{len(values)}q", *values)),
        )
    )
