"""Reading and writing serialised protocol buffers without a schema.

A graph is checked, and rewritten for the CPU, before ONNX Runtime sees it, also where the package
`onnx` is not installed, as on a Jetson, and without the time that importing it takes. What is read
here is untrusted: every length is checked, nothing is copied, nothing nests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

__all__ = ["Message", "WireError", "written"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

MAX_FIELDS = 10**6
"""Fields read of one file, those of all its messages together. Bounds the time that a crafted file
takes."""

_MAX_KEY_BYTES, _MAX_KEY = 5, 2**32 - 1

_CONTINUED = bytes(range(0x80, 0x100))
"""Bytes of an integer that are followed by another of it."""


class WireError(ValueError):
    """The bytes are not a serialised message."""


class Message:
    """The fields of one message, which is taken apart one level deep.

    As protocol buffers define it, a field that stands twice counts once: of numbers and texts the
    last one, of messages all, joined.

    Args:
        data: the serialised message.
        fields_read: counts the fields of a file; None for the outermost message.

    Raises:
        WireError: the bytes are no message.
    """

    def __init__(
        self, data: bytes | memoryview, *, fields_read: Iterator[int] | None = None
    ) -> None:
        self._fields_read = count() if fields_read is None else fields_read
        self._numbers: dict[int, list[int]] = {}
        self._parts: dict[int, list[memoryview]] = {}
        for field, value in _fields(memoryview(data), self._fields_read):
            if isinstance(value, int):
                self._numbers.setdefault(field, []).append(value)
            else:
                self._parts.setdefault(field, []).append(value)

    def __contains__(self, field: int) -> bool:
        return field in self._numbers or field in self._parts

    def number(self, field: int) -> int:
        """An integer or enumeration; 0 where it is absent."""
        return self._numbers.get(field, [0])[-1]

    def count(self, field: int) -> int:
        """How many entries a repeated integer has, one by one or packed."""
        packed = (memoryview(part) for part in self._parts.get(field, []))
        return len(self._numbers.get(field, [])) + sum(map(_numbers_in, packed))

    def numbers(self, field: int) -> list[int]:
        """The entries of a repeated integer, those that stand one by one before the packed ones.

        Raises:
            WireError: a packed one is cut off.
        """
        entries = list(self._numbers.get(field, []))
        for part in self._parts.get(field, []):
            place = 0
            while place < len(part):
                value, place = _varint(part, place)
                entries.append(value)
        return entries

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

    def texts(self, field: int) -> list[str]:
        """The entries of a repeated string.

        Raises:
            WireError: one is not UTF-8.
        """
        try:
            return [bytes(part).decode() for part in self._parts.get(field, [])]
        except UnicodeDecodeError as error:
            raise WireError(f"a text that is not UTF-8: {error}") from error

    def parts(self, field: int) -> list[memoryview]:
        """The bytes of each entry of a repeated message, string or array of bytes."""
        return self._parts.get(field, [])

    def replaced(self, field: int, parts: Sequence[bytes | memoryview]) -> bytes:
        """Serialises the message with other entries of one field.

        The fields come in another order than before, entries of one field keep theirs. Fields of
        fixed width, which no model or graph of ONNX has itself, are left out.
        """
        fields: dict[int, Sequence[int | bytes | memoryview]]
        fields = {**self._numbers, **self._parts, field: parts}
        return b"".join(written(number, *values) for number, values in fields.items())

    def message(self, field: int) -> Message:
        """A single message; empty where it is absent."""
        parts = self._parts.get(field, [])
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return Message(data, fields_read=self._fields_read)

    def messages(self, field: int) -> Iterator[Message]:
        """The entries of a repeated message."""
        for part in self._parts.get(field, []):
            yield Message(part, fields_read=self._fields_read)


def _numbers_in(packed: memoryview) -> int:
    """How many integers follow one another: each ends with a byte below 128."""
    return len(bytes(packed).translate(None, delete=_CONTINUED))


def written(field: int, *values: int | str | bytes | memoryview) -> bytes:
    """Serialises entries of a field.

    Args:
        field: its number.
        values: integers from 0 to 2⁶⁴ - 1; strings; or serialised messages.
    """
    pieces: list[bytes | memoryview] = []
    for value in values:
        if isinstance(value, int):
            pieces += [_number(field << 3 | _VARINT), _number(value)]
        else:
            content = value.encode() if isinstance(value, str) else value
            pieces += [_number(field << 3 | _BYTES), _number(len(content)), content]
    return b"".join(pieces)


def _number(value: int) -> bytes:
    """An integer in groups of seven bits, the lowest first, all but the last with the top bit."""
    if value <= 0x7F:
        return value.to_bytes(1, "little")
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _fields(data: memoryview, fields_read: Iterator[int]) -> Iterator[tuple[int, int | memoryview]]:
    """Field number and value; values of fixed width are passed over, but counted."""
    place = 0
    while place < len(data):
        if next(fields_read) >= MAX_FIELDS:
            raise WireError(f"more than {MAX_FIELDS} fields")
        begin = place
        key, place = _varint(data, place)
        # Some parsers drop the bits above the 32nd: a field unknown here would be a node there.
        if key > _MAX_KEY or place - begin > _MAX_KEY_BYTES:
            raise WireError(f"a field's number of more than 29 bits at byte {begin}")
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
