"""Memory that grows and is kept: pictures come in many sizes, and allocating waits for the GPU."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from m2a.runtime.gpu.device import ALIGNMENT, Address, Allocation, Device


class Layout:
    """Named arrays, one after the other in one piece of memory, each of them aligned."""

    def __init__(self) -> None:
        self._offsets: dict[str, int] = {}
        self.size = 0

    def add(self, name: str, size: int) -> None:
        """Adds an array of that many bytes behind all others."""
        self._offsets[name] = self.size
        self.size += -(-size // ALIGNMENT) * ALIGNMENT

    def offset(self, name: str) -> int:
        """Bytes before an array."""
        return self._offsets[name]


class Buffers:
    """Named memory on the device and pinned memory on the host.

    What is reserved under a name stays valid until the next reservation under it. One that must
    grow frees its memory first: nothing that is queued may use it then.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._on_device: dict[str, tuple[Allocation, int]] = {}
        self._on_host: dict[str, NDArray[Any]] = {}

    def reserve(self, name: str, size: int) -> Address:
        """Returns at least `size` bytes of the device; their content is anyone's.

        Raises:
            BackendError: the device has not as many.
        """
        kept = self._on_device.get(name)
        if kept is not None and kept[1] >= size:
            return kept[0].address
        if kept is not None:
            del self._on_device[name]
            kept[0].free()
        size = max(size, 1)
        allocation = self._device.allocate(size)
        self._on_device[name] = (allocation, size)
        return allocation.address

    def pinned(self, name: str, size: int) -> NDArray[Any]:
        """Returns `size` bytes of the host as uint8 [size]; their content is anyone's."""
        kept = self._on_host.get(name)
        if kept is None or len(kept) < size:
            kept = self._on_host[name] = self._device.pinned(max(size, 1))
        return kept[:size]
