"""A session whose inputs and outputs lie in a device's memory, in buffers that stay.

Plain `run` copies from pageable memory into new memory of the device each time. Here a buffer is
kept for each input and output as long as the shapes stay, which those of a series of photographs
from one camera do: the mask graph's image and mask always, unless an ensemble of eight exchanges
their sides; tables where a mask is given again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class BoundSession:
    """An ONNX Runtime session that is run by I/O binding.

    On CUDA it has run once, on an H200 with ONNX Runtime 1.27: `tests/gpu` holds the tests. The
    others bind the CPU's memory, where the calls are the same.

    Args:
        runtime: the module `onnxruntime`.
        session: the session.
        outputs: the names of its outputs, in its order.
        device: ONNX Runtime's name of the memory: `cuda`, `cpu`.
    """

    def __init__(
        self,
        runtime: Any,  # noqa: ANN401 - the package has no types
        session: Any,  # noqa: ANN401
        outputs: Sequence[str],
        *,
        device: str,
    ) -> None:
        self._runtime, self._session, self._device = runtime, session, device
        self._output_names = list(outputs)
        self._lock = threading.Lock()  # the buffers are one picture's at a time
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}
        self._form: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Computes the outputs: see `Runner.run`. What fails raises as ONNX Runtime raises it."""
        with self._lock:
            return self._run(feeds)

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        form = {name: (feed.shape, feed.dtype) for name, feed in feeds.items()}
        if form != self._form:
            # The shapes of the outputs follow from those of the inputs, and are not known yet.
            self._outputs = {}
            same = {name for name in form if form[name] == self._form.get(name)}
            self._inputs = {name: self._inputs[name] for name in same}
        self._form = {}
        binding = self._session.io_binding()
        for name, feed in feeds.items():
            kept = self._inputs.get(name)
            if kept is None:
                # From the shape alone: made of an array it might be the array, which is not ours.
                create = self._runtime.OrtValue.ortvalue_from_shape_and_type
                kept = self._inputs[name] = create(
                    list(feed.shape), feed.dtype.type, self._device, 0
                )
            kept.update_inplace(feed)
            binding.bind_ortvalue_input(name, kept)
        for name in self._output_names:
            if name in self._outputs:
                binding.bind_ortvalue_output(name, self._outputs[name])
            else:
                binding.bind_output(name, self._device, 0)
        binding.synchronize_inputs()
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        self._outputs = dict(zip(self._output_names, binding.get_outputs(), strict=True))
        self._form = form
        # The caller's own, also where an array is a view of the buffer.
        return {
            name: np.require(value.numpy(), requirements=["OWNDATA"])
            for name, value in self._outputs.items()
        }
