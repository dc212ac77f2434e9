"""A graph that is a model of the same server: the backend contract by requests from inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import triton_python_backend_utils as pb_utils  # the server's own, found in no other place

from m2a.errors import BackendError
from m2a.runtime.backends import Array, one_line

__all__ = ["BACKEND", "TritonRunner"]

BACKEND = "triton"


class TritonRunner:
    """Computes one graph by asking another model of the server; see `m2a.runtime.backends.Runner`.

    It may be used while the server executes a model, not while it loads one.

    Args:
        model: its name.
        version: its version, which is the asking model's own: parts of two networks are never
            mixed, also while the server changes from one version to the next.
        outputs: the names of the graph's outputs.
    """

    backend = BACKEND

    def __init__(self, model: str, *, version: int, outputs: Sequence[str]) -> None:
        self._model, self._version, self._outputs = model, version, list(outputs)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Runner.run`.

        Raises:
            BackendError: the model is not loaded, or failed.
        """
        request = pb_utils.InferenceRequest(
            model_name=self._model,
            model_version=self._version,
            requested_output_names=self._outputs,
            inputs=[pb_utils.Tensor(name, feed) for name, feed in feeds.items()],
            # What is computed on a GPU is wanted here: the scatter is NumPy's.
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        )
        response = request.exec()
        if response.has_error():
            raise BackendError(
                f"the model {self._model!r}, version {self._version}, failed: "
                f"{one_line(response.error().message())}"
            )
        return {
            # Copied: what `as_numpy` shows belongs to the response.
            name: np.array(pb_utils.get_output_tensor_by_name(response, name).as_numpy())
            for name in self._outputs
        }
