"""One graph alone, from arrays of the host to arrays of the host: a `Runner` on a device.

`Deblurrer`'s single stages need it, and so `verify`; a whole picture goes through `pipeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from m2a.runtime.backends import Array
from m2a.runtime.gpu.buffers import Buffers
from m2a.runtime.gpu.device import Device, Engine, Tensor

Shapes = dict[str, tuple[int, ...]]

OUTPUTS: Mapping[str, Callable[[Mapping[str, Array]], Shapes]] = {
    "mask": lambda feeds: {"mask": (1, 1, *feeds["image"].shape[2:])},
    "restore": lambda feeds: {
        "residual": (len(feeds["patches"]), 3),
        "motion": (len(feeds["site_xy"]), 4),
    },
}
"""Graph → the shapes of its outputs, all f32, for its inputs (DESIGN section 4)."""


class DeviceRunner:
    """See `m2a.runtime.backends.Runner`.

    Args:
        graph: `mask` or `restore`.
        engine: computes it.
        device: on which.
        backend: its name.
    """

    def __init__(self, graph: str, engine: Engine, device: Device, *, backend: str) -> None:
        self.backend = backend
        self._engine, self._device = engine, device
        self._outputs = OUTPUTS[graph]
        self._buffers = Buffers(device)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Runner.run`.

        Raises:
            EngineError: the engine does not hold inputs of these sizes.
            BackendError: the computation failed.
        """
        with self._device.active():
            shapes = self._outputs(feeds)
            sizes = {name: feed.nbytes for name, feed in feeds.items()}
            sizes |= {name: int(np.prod(shape)) * 4 for name, shape in shapes.items()}
            ports, pinned = {}, {}
            for name, size in sizes.items():
                shape = feeds[name].shape if name in feeds else shapes[name]
                address = self._buffers.reserve(name, size)
                ports[name] = Tensor(address=address, shape=shape)
                pinned[name] = self._buffers.pinned(name, size)
            for name, feed in feeds.items():
                pinned[name].view(feed.dtype)[:] = feed.reshape(-1)
                self._device.upload(ports[name].address, pinned[name])
            self._engine.enqueue(ports)
            for name in shapes:
                self._device.download(pinned[name], ports[name].address)
            self._device.wait()
            return {
                name: pinned[name].view(np.float32).reshape(shape).copy()
                for name, shape in shapes.items()
            }
