"""Backends: who computes the two graphs, and the promise that it is the one that was asked for."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from m2a.errors import BackendError, MissingDependencyError, UsageError, install_advice
from m2a.graphs.for_cpu import rewrite_for_cpu
from m2a.machine.cores import usable_cores
from m2a.runtime.arena import share_arena
from m2a.runtime.io_binding import BoundSession

Array = NDArray[Any]


class Runner(Protocol):
    """Computes one graph.

    Attributes:
        backend: the name of the backend that computes it.
    """

    backend: str

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Computes the outputs.

        Args:
            feeds: every input of the graph by name, C-contiguous, with the contract's dtypes.

        Returns:
            Every output by name; the arrays are the caller's.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class OrtBackend:
    """An execution provider of ONNX Runtime.

    Attributes:
        provider: ONNX Runtime's name for it.
        options: its options. FP32 means FP32: TF32 is off wherever the provider has it.
        extra: the extra of m2a that installs it.
        memory: ONNX Runtime's name of the memory in which inputs and outputs are bound to buffers
            that stay; None leaves them to the session.
        rewrite: what makes of a graph another one with the same results, faster on this provider.
    """

    provider: str
    options: Mapping[str, str]
    extra: str
    memory: str | None = None
    rewrite: Callable[[bytes], bytes] | None = None


BACKENDS: Mapping[str, OrtBackend] = {
    "ort-cpu": OrtBackend(
        provider="CPUExecutionProvider", options={}, extra="cpu", rewrite=rewrite_for_cpu
    ),
    "ort-cuda": OrtBackend(
        provider="CUDAExecutionProvider", options={"use_tf32": "0"}, extra="gpu", memory="cuda"
    ),
    "ort-tensorrt": OrtBackend(provider="TensorrtExecutionProvider", options={}, extra="gpu"),
}
"""Backend name → provider. `ort-cpu` is the default."""

PIPELINES: Mapping[str, str] = {"tensorrt": "m2a.engines.deblurrer"}
"""Backends that take a whole picture, not one graph → the module whose `open_on_gpu` opens it.

Only its name stands here, as an entry point's would: the module builds on this layer, and is
imported when somebody asks for the backend.
"""

NAMES = (*BACKENDS, *PIPELINES)
"""All backends."""

DEFAULT_BACKEND = "ort-cpu"


def check_backend(backend: str) -> None:
    """Refuses a name that no backend has.

    Raises:
        UsageError: there is no backend of that name.
    """
    if backend not in NAMES:
        raise UsageError(f"unknown backend {backend!r}; known are {', '.join(NAMES)}")


def open_runners(
    graphs: Sequence[bytes],
    *,
    backend: str,
    optimize: bool = True,
    threads: int | None = None,
) -> list[OrtRunner]:
    """Opens graphs on one backend, all of them or none.

    Args:
        graphs: serialised ONNX models.
        backend: a key of `BACKENDS`.
        optimize: False computes node by node as written, on one thread: the slow reference.
        threads: threads of the computation on the CPU; None takes the cores that this process may
            use.

    Raises:
        UsageError: there is no backend of that name, or threads is not positive.
        BackendError: the backend cannot be used here.
        MissingDependencyError: ONNX Runtime is not installed.
    """
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}; known are {', '.join(BACKENDS)}")
    if threads is not None and threads < 1:
        raise UsageError(f"expected at least one thread, found {threads}")

    return [
        OrtRunner(graph, backend=backend, optimize=optimize, threads=threads) for graph in graphs
    ]


_QUANTIZED = b"QuantizeLinear"
"""What a graph in INT8 holds."""

_FORBIDDEN = ["MatMulAddFusion"]
"""Optimisations of ONNX Runtime that would keep a graph in INT8 from being computed so: they make
Gemm nodes of its products and biases, which are then no longer fused with their Q/DQ pairs."""


class OrtRunner:
    """A graph in an ONNX Runtime session."""

    def __init__(
        self, graph: bytes, *, backend: str, optimize: bool, threads: int | None = None
    ) -> None:
        runtime = import_onnxruntime(extra=BACKENDS[backend].extra)
        chosen = BACKENDS[backend]
        available = runtime.get_available_providers()
        if chosen.provider not in available:
            raise BackendError(
                f"the backend {backend!r} needs ONNX Runtime's {chosen.provider}, but this "
                f"installation has {', '.join(available)}. With an NVIDIA GPU, "
                f"{install_advice(chosen.extra, before='pip uninstall -y onnxruntime')}, for both "
                f"at once break each other; or use --backend {DEFAULT_BACKEND}"
            )
        if chosen.extra == "gpu":
            load_cuda(runtime)
        settings = runtime.SessionOptions()
        settings.log_severity_level = 4  # what fails is raised; nothing is printed behind our back
        # Else a model in ONNX Runtime's own format would be taken too, which nothing has checked.
        settings.add_session_config_entry("session.load_model_format", "ONNX")
        # The arena keeps what it took: without it every activation is new memory, and a seventh of
        # the time goes into the system's first touch of its pages.
        settings.enable_cpu_mem_arena = True
        if chosen.provider == BACKENDS[DEFAULT_BACKEND].provider:
            share_arena(runtime, settings)
        # Threads wait for the next operation by spinning, but not for the next call: they would
        # take the cores from the other graph's threads and from ours.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "1")
        settings.add_session_config_entry("session.force_spinning_stop", "1")
        # Left to itself, ONNX Runtime starts a thread for every core of the machine, and where the
        # process may use fewer, they spin in each other's way.
        settings.intra_op_num_threads = threads or usable_cores()
        if not optimize:
            settings.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
            settings.intra_op_num_threads = 1
        try:
            if optimize and chosen.rewrite is not None:
                graph = chosen.rewrite(graph)
            self._session = runtime.InferenceSession(
                graph,
                settings,
                providers=[(chosen.provider, dict(chosen.options))],
                disabled_optimizers=_FORBIDDEN if _QUANTIZED in graph else None,
                enable_fallback=0,  # else it prints on standard output and tries elsewhere
            )
        except Exception as error:  # the runtime's exceptions have no common base
            raise BackendError(
                f"ONNX Runtime cannot open the graph with {chosen.provider}: {one_line(error)}"
            ) from error
        opened = self._session.get_providers()[0]
        if opened != chosen.provider:
            # ONNX Runtime goes on with the CPU where a provider fails to load its libraries.
            raise BackendError(
                f"the backend {backend!r} did not start: ONNX Runtime opened {opened} instead "
                f"of {chosen.provider}. Check the driver and the CUDA libraries, or use "
                f"--backend {DEFAULT_BACKEND}"
            )
        self._session.disable_fallback()
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._bound = (
            None
            if chosen.memory is None
            else BoundSession(runtime, self._session, self._outputs, device=chosen.memory)
        )
        self.backend = backend

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Runner.run`.

        Raises:
            BackendError: the computation failed, for want of memory for example.
        """
        try:
            if self._bound is not None:
                return self._bound.run(feeds)
            results = self._session.run(self._outputs, dict(feeds))
        except Exception as error:  # as above
            raise BackendError(f"{self.backend} failed: {one_line(error)}") from error
        return dict(zip(self._outputs, map(np.asarray, results), strict=True))


def extras_of(backend: str) -> tuple[str, ...]:
    """The extra that brings a backend's ONNX Runtime; none where it has no need of that."""
    return (BACKENDS[backend].extra,) if backend in BACKENDS else ()


def import_onnxruntime(*, extra: str) -> Any:  # noqa: ANN401 - the package has no types
    """Imports ONNX Runtime, or says which extra installs it."""
    try:
        runtime = importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "onnxruntime" if extra == "cpu" else "onnxruntime-gpu",
            extra=extra,
            purpose="Running a bundle",
        ) from error
    except ImportError as error:
        raise BackendError(f"ONNX Runtime cannot be loaded: {one_line(error)}") from error
    if not hasattr(runtime, "InferenceSession"):
        raise BackendError(
            "ONNX Runtime is incomplete: onnxruntime and onnxruntime-gpu overwrite each other's "
            "files. Uninstall both, then install one of the extras cpu and gpu again"
        )
    return runtime


def load_cuda(runtime: Any) -> None:  # noqa: ANN401 - the package has no types
    """Loads CUDA's libraries where pip has put them, which is no place that the system looks into.

    It never fails: where they are missing, or the system's are taken, a session shows.
    """
    preload = getattr(runtime, "preload_dlls", None)  # from ONNX Runtime 1.21 on
    if preload is None:
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        preload()


def one_line(error: Exception) -> str:
    """What a library says of its failure, on one line, cut where it goes on and on."""
    return " ".join(str(error).split())[:300]
