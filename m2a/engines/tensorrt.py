"""The one place that knows TensorRT's API: `tensorrt` 10.3 to 11 and `tensorrt_rtx`.

What a version can do is asked of the version itself, never read off its number. Networks are
strongly typed: precision lies in the graph (DESIGN section 6). TF32 is switched off, so that FP32
means FP32.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from m2a.engines.profiles import Profile
from m2a.errors import EngineError, MissingDependencyError, UsageError

FLAVOURS = {"trt": "tensorrt", "rtx": "tensorrt_rtx"}
"""Short name, as it stands in an engine's key → module."""

LayerTypes = Mapping[str, Mapping[str, int]]
"""Kind of layer → type of its output → how many."""

Report = Callable[[str, int, int], None]
"""Called with a phase's name, the steps done in it, and all its steps; from any thread."""

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class TensorRT:
    """An installed TensorRT.

    Attributes:
        flavour: `trt`, or `rtx` for TensorRT for RTX.
        module: the Python module.
    """

    flavour: str
    module: ModuleType

    @property
    def version(self) -> str:
        """Its version."""
        return str(self.module.__version__)

    @property
    def targets(self) -> tuple[str, ...]:
        """Compute capabilities it builds for without such a GPU, as `sm86`; none if it cannot."""
        capabilities = getattr(self.module, "ComputeCapability", None)
        if capabilities is None or not hasattr(
            self.module.IBuilderConfig, "set_compute_capability"
        ):
            return ()
        names = [name.lower() for name in dir(capabilities) if name.startswith("SM")]
        return tuple(sorted(names, key=lambda name: int(name[2:])))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A built engine.

    Attributes:
        content: the serialised engine.
        layer_types: of the network as it was parsed: what the engine computes in.
        seconds: how long it took.
    """

    content: bytes
    layer_types: LayerTypes
    seconds: float


def find_tensorrt(flavour: str | None = None) -> TensorRT:
    """Imports TensorRT.

    Args:
        flavour: `trt` or `rtx`; None takes the first of them that is installed.

    Raises:
        UsageError: there is no such flavour.
        MissingDependencyError: it is not installed.
        EngineError: it is installed and cannot be loaded.
    """
    if flavour is not None and flavour not in FLAVOURS:
        raise UsageError(f"found the flavour {flavour!r}, expected {' or '.join(FLAVOURS)}")
    for name in FLAVOURS if flavour is None else [flavour]:
        try:
            module = importlib.import_module(FLAVOURS[name])
        except ModuleNotFoundError as error:
            if error.name != FLAVOURS[name]:
                raise EngineError(f"{FLAVOURS[name]} cannot be loaded: {error}") from error
            continue
        except (ImportError, OSError, RuntimeError) as error:
            raise EngineError(f"{FLAVOURS[name]} cannot be loaded: {error}") from error
        return TensorRT(name, module)
    rtx = flavour == "rtx"
    raise MissingDependencyError(
        "tensorrt-rtx" if rtx else "tensorrt",
        extra="tensorrt-rtx" if rtx else "tensorrt",
        purpose="Building an engine",
    )


def build_plan(
    tensorrt: TensorRT,
    graph: bytes,
    profiles: Sequence[Profile],
    *,
    target: str | None,
    workspace: int | None = None,
    timing_cache: bytes | None = None,
    report: Report = lambda *_: None,
) -> tuple[Plan, bytes | None]:
    """Builds an engine from an ONNX graph.

    Args:
        tensorrt: what builds it.
        graph: the serialised model; its types are the engine's.
        profiles: optimization profiles, in order.
        target: a compute capability such as `sm86`, one of `TensorRT.targets`; None builds for
            the GPU at hand.
        workspace: bytes of scratch memory a layer may take; None leaves it to TensorRT.
        timing_cache: what an earlier build measured.
        report: told of the progress, where this TensorRT tells it.

    Returns:
        The plan, and the timing cache afterwards; None where there is none.

    Raises:
        UsageError: it cannot build for the target.
        EngineError: TensorRT refuses the graph or fails to build; its own words are quoted.
        KeyboardInterrupt: Ctrl-C; the build is told to stop, and waited for.
    """
    if target is not None and target not in tensorrt.targets:
        known = ", ".join(tensorrt.targets) or "none: it builds for the GPU at hand alone"
        raise UsageError(
            f"{FLAVOURS[tensorrt.flavour]} {tensorrt.version} does not build for {target} ahead "
            f"of time; it does for {known}"
        )
    stop = threading.Event()
    build = _Build(tensorrt, graph, profiles, target, workspace, timing_cache, report, stop)
    # In a thread of its own: while TensorRT computes, the main thread must hear Ctrl-C.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="tensorrt") as executor:
        future = executor.submit(build.run)
        try:
            while not wait([future], timeout=_POLL_SECONDS).done:
                pass
            return future.result()
        except KeyboardInterrupt:
            stop.set()
            raise


class _Build:
    """One build; all of TensorRT's objects live and die in its thread."""

    def __init__(
        self,
        tensorrt: TensorRT,
        graph: bytes,
        profiles: Sequence[Profile],
        target: str | None,
        workspace: int | None,
        timing_cache: bytes | None,
        report: Report,
        stop: threading.Event,
    ) -> None:
        self._trt, self._flavour, self._graph = tensorrt.module, tensorrt.flavour, graph
        self._profiles, self._target, self._workspace = profiles, target, workspace
        self._timing_cache, self._report, self._stop = timing_cache, report, stop

    def run(self) -> tuple[Plan, bytes | None]:
        began = time.perf_counter()
        logger = _make_logger(self._trt)
        builder = self._trt.Builder(logger)
        network = self._parse(builder, logger)
        config = builder.create_builder_config()
        self._configure(builder, config, network)
        cache = self._set_timing_cache(config)
        content = builder.build_serialized_network(network, config)
        if content is None:
            if self._stop.is_set():
                raise EngineError("the build was stopped")
            raise EngineError(f"TensorRT failed to build the engine: {_said(logger)}")
        plan = Plan(
            content=bytes(memoryview(content)),
            layer_types=_layer_types(self._trt, network),
            seconds=time.perf_counter() - began,
        )
        return plan, None if cache is None else bytes(memoryview(cache.serialize()))

    def _parse(self, builder: Any, logger: Any) -> Any:  # noqa: ANN401 - TensorRT has no types
        flag = getattr(self._trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = builder.create_network(0 if flag is None else 1 << int(flag))
        parser = self._trt.OnnxParser(network, logger)
        if not parser.parse(self._graph):
            errors = "; ".join(str(parser.get_error(n).desc()) for n in range(parser.num_errors))
            raise EngineError(f"TensorRT does not take the graph: {errors or _said(logger)}")
        # The weights belong to the parser: it must live as long as the network.
        self._parser = parser
        return network

    def _configure(self, builder: Any, config: Any, network: Any) -> None:  # noqa: ANN401
        trt = self._trt
        if hasattr(trt.BuilderFlag, "TF32"):
            config.clear_flag(trt.BuilderFlag.TF32)
        if self._workspace is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self._workspace)
        if self._target is not None:
            config.num_compute_capabilities = 1
            capability = getattr(trt.ComputeCapability, self._target.upper())
            config.set_compute_capability(capability, 0)
        inputs = [network.get_input(n) for n in range(network.num_inputs)]
        for sizes in self._profiles:
            profile = builder.create_optimization_profile()
            for tensor in inputs:
                profile.set_shape(tensor.name, *sizes.shapes(tensor.name))
            if config.add_optimization_profile(profile) < 0:
                raise EngineError(f"TensorRT refuses the optimization profile {sizes.name!r}")
        if hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor"):
            # Kept by us: TensorRT does not own it.
            self._monitor = _make_monitor(trt, self._report, self._stop)
            config.progress_monitor = self._monitor

    def _set_timing_cache(self, config: Any) -> Any:  # noqa: ANN401
        """TensorRT for RTX times nothing when it builds, and so has no use for a cache."""
        if self._flavour == "rtx" or not hasattr(config, "create_timing_cache"):
            return None
        cache = config.create_timing_cache(self._timing_cache or b"")
        # One of another GPU or version is refused; then a new one is begun.
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, ignore_mismatch=False)
        return cache


def _layer_types(trt: ModuleType, network: Any) -> dict[str, dict[str, int]]:  # noqa: ANN401
    kinds: dict[str, Counter[str]] = {}
    for number in range(network.num_layers):
        layer = network.get_layer(number)
        kind = str(layer.type).rsplit(".", maxsplit=1)[-1]
        for output in range(layer.num_outputs):
            dtype = str(layer.get_output(output).dtype).rsplit(".", maxsplit=1)[-1]
            kinds.setdefault(kind, Counter())[dtype] += 1
    return {kind: dict(counts) for kind, counts in sorted(kinds.items())}


def _make_logger(trt: ModuleType) -> Any:  # noqa: ANN401 - a class whose base is known now only
    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        """Keeps errors instead of printing them behind our back."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Logger()


def _said(logger: Any) -> str:  # noqa: ANN401
    return " ".join("; ".join(logger.errors).split())[:500] or "it gives no reason"


def _make_monitor(trt: ModuleType, report: Report, stop: threading.Event) -> Any:  # noqa: ANN401
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        """Hands the outermost phase's progress on, and stops the build when it is told to."""

        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                self._steps[phase_name] = num_steps
                report(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._steps:
                report(phase_name, step + 1, self._steps[phase_name])
            return not stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            steps = self._steps.pop(phase_name, None)
            if steps is not None:
                report(phase_name, steps, steps)

    return Monitor()
