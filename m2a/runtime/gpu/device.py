"""What the pipeline asks of a GPU, and of an engine that computes a graph on it.

It is little, so that it can stand on pycuda, and in the tests on a CPU that runs the same kernels.
Everything is queued on one stream, in the order of the calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import resources
from typing import Any, Protocol

from numpy.typing import NDArray

ALIGNMENT = 256
"""Of every address that an engine gets, in bytes: TensorRT asks for it."""


class Address(int):
    """A place in the device's memory, in bytes; a kernel takes it as a pointer."""

    def plus(self, offset: int) -> Address:
        """The place `offset` bytes further on."""
        return Address(self + offset)


Argument = Address | int | float
"""Of a kernel: a pointer, a 32-bit integer, or a 32-bit float."""


def signature(arguments: tuple[Argument, ...]) -> str:
    """The types of a kernel's arguments, one letter each: `P`, `i` or `f`, as `struct` has them.

    Raises:
        TypeError: an argument has another type: the kernel would read its bits as something else.
    """
    letters = {Address: "P", int: "i", float: "f"}
    for argument in arguments:
        if type(argument) not in letters:
            raise TypeError(f"found {argument!r} for a kernel, expected an Address, int or float")
    return "".join(letters[type(argument)] for argument in arguments)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An array in the device's memory, C-contiguous, of the type that its user expects."""

    address: Address
    shape: tuple[int, ...]


class Allocation(Protocol):
    """A piece of the device's memory, aligned to `ALIGNMENT`."""

    @property
    def address(self) -> Address:
        """Where it begins."""
        ...

    def free(self) -> None:
        """Gives it back; nothing that is queued may still use it."""
        ...


class Device(Protocol):
    """A GPU with one stream, and the kernels of `kernels.cu`.

    Attributes:
        threads: of a block: what `M2A_THREADS` was when the kernels were compiled.
        blocks: the most that one launch takes.
    """

    threads: int
    blocks: int

    def active(self) -> AbstractContextManager[None]:
        """Within, the GPU is this thread's alone, and current; every other call needs it."""
        ...

    def allocate(self, size: int) -> Allocation:
        """Takes bytes of the device's memory.

        Raises:
            BackendError: there are not as many.
        """
        ...

    def pinned(self, size: int) -> NDArray[Any]:
        """Takes bytes of the host's memory that uploads and downloads reach by themselves."""
        ...

    def upload(self, target: Address, source: NDArray[Any]) -> None:
        """Queues a copy of contiguous pinned memory, which must stay as it is until then."""
        ...

    def download(self, target: NDArray[Any], source: Address) -> None:
        """Queues a copy into contiguous pinned memory."""
        ...

    def launch(self, kernel: str, blocks: int, arguments: tuple[Argument, ...]) -> None:
        """Queues a kernel on blocks of `threads` threads."""
        ...

    def wait(self) -> None:
        """Waits for all that is queued.

        Raises:
            BackendError: something of it failed.
        """
        ...


class Engine(Protocol):
    """Computes one of the graphs on a device."""

    def enqueue(self, ports: Mapping[str, Tensor]) -> None:
        """Queues the computation on the device's stream.

        Args:
            ports: every input and output of the graph by name.

        Raises:
            EngineError: the engine does not hold inputs of these sizes.
            BackendError: it failed.
        """
        ...


def kernels_source() -> str:
    """The text of `kernels.cu`."""
    return (resources.files(__package__) / "kernels.cu").read_text(encoding="utf-8")
