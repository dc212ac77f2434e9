"""Reading serialised protocol buffers without a schema, as far as the check of a graph needs it.

A graph is checked before ONNX Runtime sees it, also where the package `onnx` is not installed, as
on a Jetson. What is read here is untrusted: every length is checked, nothing is copied, nothing
nests.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["Message", "WireError"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

MAX_FIELDS = 10**6
"""Fields in one message; ours have some hundreds. Bounds the time that a crafted file takes."""


class WireError(ValueError):
    """The bytes are not a serialised message."""


class Message:
    """The fields of one message, which is taken apart one level deep.

    As protocol buffers define it, a field that stands twice counts once: of numbers and texts the
    last one, of messages all, joined.

    Raises:
        WireError: the bytes are no message.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._numbers: dict[int, list[int]] = {}
        self._parts: dict[int, list[memoryview]] = {}
        for count, (field, value) in enumerate(_fields(memoryview(data))):
            if count == MAX_FIELDS:
                raise WireError(f"more than {MAX_FIELDS} fields")
            if isinstance(value, int):
                self._numbers.setdefault(field, []).append(value)
            else:
                self._parts.setdefault(field, []).append(value)

    def __contains__(self, field: int) -> bool:
        return field in self._numbers or field in self._parts

    def number(self, field: int) -> int:
        """An integer or enumeration; 0 where it is absent."""
        return self._numbers.get(field, [0])[-1]

    def text(self, field: int) -> str:
        """A string; empty where it is absent.

        Raises:
            WireError: it is not UTF-8.
        """
        parts = self._parts.get(field)
        try:
            return bytes(parts[-1]).decode() if parts else ""
        except UnicodeDecodeError as error:
            raise WireError(f"a text that is not UTF-8: {error}") from error

    def message(self, field: int) -> Message:
        """A single message; empty where it is absent."""
        parts = self._parts.get(field, [])
        return Message(parts[0] if len(parts) == 1 else b"".join(parts))

    def messages(self, field: int) -> Iterator[Message]:
        """The entries of a repeated message."""
        return map(Message, self._parts.get(field, []))


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field number and value; values of fixed width are passed over."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        field, kind = key >> 3, key & 7
        if field == 0:
            raise WireError(f"a field without a number at byte {place}")
        if kind == _VARINT:
            value, place = _varint(data, place)
            yield field, value
        elif kind == _BYTES:
            length, place = _varint(data, place)
            if length > len(data) - place:
                raise WireError(f"a field of {length} bytes at byte {place} of {len(data)}")
            yield field, data[place : place + length]
            place += length
        elif kind in (_FIXED64, _FIXED32):
            place += 8 if kind == _FIXED64 else 4
            if place > len(data):
                raise WireError(f"a field beyond the end, at byte {place} of {len(data)}")
        else:
            raise WireError(f"a field of the unknown kind {kind} at byte {place}")


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """An integer of up to 64 bits, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise WireError("an integer that is cut off")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place
    raise WireError(f"an integer of more than ten bytes at byte {place}")
