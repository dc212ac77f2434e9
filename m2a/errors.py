"""The errors that m2a raises on purpose.

Every message says what happened, what was found, what was expected and, where there is
something to do, what to do next. The command line prints the message on one line and exits
with `exit_code`; a program catches `M2AError`.
"""

from __future__ import annotations


class M2AError(Exception):
    """The base of all errors raised by m2a on purpose.

    Attributes:
        exit_code: what the command line exits with: 2 for misuse, which options and names alone
            tell, and 1 for what fails at work.
    """

    exit_code = 1


def number_of(count: int, noun: str) -> str:
    """Writes `1 photo`, or `3 photos`, of a noun whose plural takes an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


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


class ImageNotFoundError(ImageError):
    """There is no file of a picture's name."""

    exit_code = 2


class PixelLimitError(ImageError):
    """A picture has more pixels than are accepted."""


class VideoError(M2AError):
    """A video cannot be read, is not supported, or cannot be written."""


class BundleError(M2AError):
    """A bundle is missing, incomplete, of another schema, or not what its manifest says."""


class BundleNotFoundError(BundleError):
    """There is no bundle of a name."""

    exit_code = 2


class CheckpointError(M2AError):
    """A file is not a checkpoint, or its weights do not fit the network."""


class CheckpointNotFoundError(CheckpointError):
    """There is no checkpoint of a name."""

    exit_code = 2


class BackendError(M2AError):
    """The asked-for execution provider cannot be used on this machine."""


class ClusterError(M2AError):
    """A Ray cluster or an object store cannot be used, or failed."""


def install_command(extra: str) -> str:
    """The command that installs an extra, or several joined by commas, from m2a's own folder."""
    return f"pip install -e '.[{extra}]'"


def install_advice(extra: str, *, before: str = "") -> str:
    """The command with the folder in which it works, to end a sentence.

    Args:
        extra: the extra, or several joined by commas.
        before: a command that comes first.
    """
    first = f"{before} && " if before else ""
    return f"in the folder of m2a: {first}{install_command(extra)}"


class MissingDependencyError(M2AError):
    """Optional dependencies are not installed.

    Attributes:
        packages: all that are missing.
        extra: what brings them; several extras are joined by commas.
    """

    def __init__(self, *packages: str, extra: str, purpose: str, install: str = "") -> None:
        """Names everything at once.

        Args:
            packages: all that are missing.
            extra: what brings them.
            purpose: what needs them, as the beginning of a sentence.
            install: what to do, where one extra is not the whole answer.
        """
        listed = ", ".join(map(repr, packages))
        which, verb = ("package", "is") if len(packages) == 1 else ("packages", "are")
        super().__init__(
            f"{purpose} needs the {which} {listed}, which {verb} not installed. "
            f"{install or f'Install {install_advice(extra)}'}"
        )
        self.packages = packages
        self.extra = extra


class ContractError(M2AError):
    """An ONNX graph breaks the contract of the exported graphs."""


class ParityError(M2AError):
    """Two forms of the network disagree by more than the stated tolerance."""


class TrainingError(M2AError):
    """Training cannot start or go on: no photographs, a non-finite loss."""


class RecipeNotFoundError(TrainingError):
    """There is no recipe of a name."""

    exit_code = 2


class PrecisionError(M2AError):
    """A graph cannot be computed in the asked-for precision, or not well enough."""


class EngineError(M2AError):
    """A TensorRT engine cannot be built, read, or run on this machine."""


class ServiceError(M2AError):
    """A service cannot be started."""
