"""The errors that m2a raises on purpose.

Every message says what happened, what was found, what was expected and, where there is
something to do, what to do next. The command line prints the message on one line and exits
with `exit_code`; a program catches `M2AError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class M2AError(Exception):
    """The base of all errors raised by m2a on purpose.

    Attributes:
        exit_code: what the command line exits with: 1 failed, 2 misuse.
    """

    exit_code = 1


def on_one_line(message: object) -> str:
    """A message as it may be printed: a file's name can hold line breaks and control characters.

    Args:
        message: an error or its text.

    Returns:
        The text with everything that is neither printable nor a space as Python escapes it.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in str(message)
    )


class UsageError(M2AError):
    """The caller asked for something that cannot be meant: an unknown name, a bad combination."""

    exit_code = 2


class ImageError(M2AError):
    """A picture cannot be read, is not supported, or cannot be written."""


class VideoError(M2AError):
    """A video cannot be read, is not supported, or cannot be written."""


class BundleError(M2AError):
    """A bundle is missing, incomplete, of another schema, or not what its manifest says."""


class CheckpointError(M2AError):
    """A file is not a checkpoint, or its weights do not fit the network."""


class BackendError(M2AError):
    """The asked-for execution provider cannot be used on this machine."""


class ClusterError(M2AError):
    """A Ray cluster or an object store cannot be used, or failed."""


class MissingDependencyError(M2AError):
    """An optional dependency is not installed.

    The message names the extra to install.
    """

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'm2a[{extra}]'"
        )
        self.package = package
        self.extra = extra


@contextmanager
def needing_extra(extra: str, *, purpose: str) -> Iterator[None]:
    """Around imports: a package that is missing becomes an error that names its extra.

    Raises:
        MissingDependencyError: a package other than m2a itself is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("m2a"):
            raise
        raise MissingDependencyError(error.name, extra=extra, purpose=purpose) from error


class ContractError(M2AError):
    """An ONNX graph breaks the contract of the exported graphs."""


class ParityError(M2AError):
    """Two forms of the network disagree by more than the stated tolerance."""


class TrainingError(M2AError):
    """Training cannot start or go on: no photographs, a non-finite loss."""


class PrecisionError(M2AError):
    """A graph cannot be computed in the asked-for precision, or not well enough."""


class EngineError(M2AError):
    """A TensorRT engine cannot be built, read, or run on this machine."""
