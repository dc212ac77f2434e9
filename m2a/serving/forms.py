"""The photo in a form, as browsers send it (multipart/form-data)."""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from m2a.serving.problems import ProblemError

__all__ = ["FIELD", "PhotoForm"]

FIELD = "photo"

HEADER_BYTES = 4096
"""Of the form's parts together; a browser sends some hundred."""


class PhotoForm:
    """Takes a form piece by piece and keeps its one file, in memory and without its name."""

    def __init__(self, content_type: str) -> None:
        """Begins.

        Args:
            content_type: of the request, with the boundary.

        Raises:
            ProblemError: 422, there is no boundary, or it is too long.
        """
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise _refused("found no boundary in the Content-Type")
        self._photo = bytearray()
        self._parts = self._ended = 0
        self._name, self._value, self._disposition = bytearray(), bytearray(), b""
        self._header_bytes = 0
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_to_name,
                    "on_header_value": self._add_to_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._check_part,
                    "on_part_data": self._add_to_photo,
                    "on_part_end": self._end_part,
                },
            )
        except FormParserError as error:
            raise _refused(f"the form cannot be read: {error}") from None

    def write(self, data: bytes) -> None:
        """Takes the next piece.

        Raises:
            ProblemError: 422, the form is damaged, or holds something else than one photo.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _refused(f"the form is damaged: {error}") from None

    def photo(self) -> bytes:
        """The photo of a form that was taken completely.

        Raises:
            ProblemError: 422, it ends too early, or holds no photo.
        """
        if self._parts == 0 or self._ended != self._parts:
            raise _refused("the form ends before its photo does")
        return bytes(self._photo)

    def _begin_part(self) -> None:
        self._parts += 1
        self._disposition = b""
        if self._parts > 1:
            raise _refused("found several fields")

    def _add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._name += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._value += data[start:end]

    def _count_header(self, found: int) -> None:
        self._header_bytes += found
        if self._header_bytes > HEADER_BYTES:
            raise _refused(f"found headers of more than {HEADER_BYTES} bytes in the form")

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _check_part(self) -> None:
        options = parse_options_header(self._disposition)[1]
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name != FIELD or b"filename" not in options:
            raise _refused(f"found the field {name!r:.80}")

    def _add_to_photo(self, data: bytes, start: int, end: int) -> None:
        self._photo += data[start:end]

    def _end_part(self) -> None:
        self._ended += 1


def _refused(found: str) -> ProblemError:
    return ProblemError(422, f"{found}, expected a form with one file, {FIELD!r}")
