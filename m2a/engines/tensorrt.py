"""The one place that knows how TensorRT's versions differ: `tensorrt` 10.3 to 11, `tensorrt_rtx`.

What a version can do is asked of the version itself, never read off its number. Networks are
strongly typed: precision lies in the graph (DESIGN section 6). TF32 is switched off, so that FP32
means FP32.
"""

from __future__ import annotations

import importlib
import re
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from m2a.engines.profiles import Profile
from m2a.engines.sidecar import LayerTypes
from m2a.engines.tensorrt_callbacks import Report, make_monitor, nothing_collected, shared_logger
from m2a.engines.timing_cache import TimingCacheFile
from m2a.errors import EngineError, MissingDependencyError, UsageError
from m2a.machine.installed import TENSORRT

FLAVOURS = {name: flavour.module for name, flavour in TENSORRT.items()}
"""Short name, as it stands in an engine's key → module."""

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


def find_tensorrt(flavour: str | None = None, *, ahead_of_time: bool = False) -> TensorRT:
    """Imports TensorRT.

    Args:
        flavour: `trt` or `rtx`; None takes the first of them that is installed.
        ahead_of_time: with None, take one that builds without the GPU at hand.

    Raises:
        UsageError: there is no such flavour.
        MissingDependencyError: it is not installed.
        EngineError: it is installed and cannot be loaded, or is too old.
    """
    if flavour is not None and flavour not in FLAVOURS:
        raise UsageError(f"found the flavour {flavour!r}, expected {' or '.join(FLAVOURS)}")
    wanted = list(FLAVOURS) if flavour is None else [flavour]
    installed = [found for name in wanted if (found := _import(name)) is not None]
    if flavour is None and ahead_of_time:
        installed.sort(key=lambda found: not found.targets)
    if installed:
        return _recent(installed[0])
    rtx = flavour == "rtx" or (flavour is None and ahead_of_time)
    raise MissingDependencyError(
        "tensorrt-rtx" if rtx else "tensorrt",
        extra="tensorrt-rtx" if rtx else "tensorrt",
        purpose="Building an engine ahead of time" if rtx else "Building an engine",
    )


def _import(flavour: str) -> TensorRT | None:
    name = FLAVOURS[flavour]
    try:
        return TensorRT(flavour, importlib.import_module(name))
    except ModuleNotFoundError as error:
        if error.name != name:
            raise EngineError(f"{name} cannot be loaded: {error}") from error
        return None
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(f"{name} cannot be loaded: {error}") from error


def _recent(found: TensorRT) -> TensorRT:
    oldest = TENSORRT[found.flavour].oldest
    numbers = tuple(int(number) for number in re.findall(r"\d+", found.version)[:2])
    if numbers < oldest:
        wanted = ".".join(map(str, oldest))
        raise EngineError(
            f"{FLAVOURS[found.flavour]} {found.version} is too old, expected {wanted} or newer"
        )
    return found


def check_target(tensorrt: TensorRT, target: str | None) -> None:
    """Refuses a target before any work is done.

    Raises:
        UsageError: it cannot build for the target ahead of time.
    """
    if target is None or target in tensorrt.targets:
        return
    name = f"{FLAVOURS[tensorrt.flavour]} {tensorrt.version}"
    if not tensorrt.targets:
        raise UsageError(
            f"{name} builds for the GPU at hand alone; for {target} ahead of time take TensorRT "
            "for RTX: --flavour rtx, pip install -e '.[tensorrt-rtx]'"
        )
    raise UsageError(
        f"{name} does not build for {target} ahead of time; it does for "
        f"{', '.join(tensorrt.targets)}"
    )


def build_plan(
    tensorrt: TensorRT,
    graph: bytes,
    profiles: Sequence[Profile],
    *,
    target: str | None,
    workspace: int | None = None,
    timings: TimingCacheFile | None = None,
    report: Report = lambda *_: None,
) -> Plan:
    """Builds an engine from an ONNX graph.

    Args:
        tensorrt: what builds it.
        graph: the serialised model; its types are the engine's.
        profiles: optimization profiles, in order.
        target: a compute capability such as `sm86`, one of `TensorRT.targets`; None builds for
            the GPU at hand.
        workspace: bytes of scratch memory a layer may take; None leaves it to TensorRT.
        timings: what earlier builds measured, and where what this one measures goes. TensorRT for
            RTX measures nothing when it builds.
        report: told of the progress, where this TensorRT tells it, one call at a time.

    Returns:
        The plan.

    Raises:
        UsageError: it cannot build for the target.
        EngineError: TensorRT refuses the graph or fails to build; its own words are quoted.
        KeyboardInterrupt: Ctrl-C; the build is told to stop, and waited for.
    """
    check_target(tensorrt, target)
    stop = threading.Event()
    build = _Build(tensorrt, graph, profiles, target, workspace, timings, report, stop)
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
    """One build. TensorRT's objects are made, and dropped, in `run`."""

    def __init__(
        self,
        tensorrt: TensorRT,
        graph: bytes,
        profiles: Sequence[Profile],
        target: str | None,
        workspace: int | None,
        timings: TimingCacheFile | None,
        report: Report,
        stop: threading.Event,
    ) -> None:
        self._trt, self._graph = tensorrt.module, graph
        self._profiles, self._target, self._workspace = profiles, target, workspace
        self._timings = None if tensorrt.flavour == "rtx" else timings
        self._report, self._stop = report, stop

    def run(self) -> Plan:
        try:
            return self._run()
        except BaseException as error:
            # The error's frames would keep TensorRT's objects, to be freed nobody knows when.
            traceback.clear_frames(error.__traceback__)
            raise

    def _run(self) -> Plan:
        began = time.perf_counter()
        logger = shared_logger(self._trt)
        said = logger.from_now_on()
        with nothing_collected():
            builder = self._trt.Builder(logger)
        flag = getattr(self._trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = builder.create_network(0 if flag is None else 1 << int(flag))
        # The weights belong to the parser: it lives as long as the network.
        parser = self._trt.OnnxParser(network, logger)
        if not parser.parse(self._graph):
            errors = "; ".join(str(parser.get_error(n).desc()) for n in range(parser.num_errors))
            raise EngineError(f"TensorRT does not take the graph: {errors or said()}")
        config = builder.create_builder_config()
        self._configure(builder, config, network, said)
        monitor = None
        if hasattr(self._trt, "IProgressMonitor") and hasattr(config, "progress_monitor"):
            monitor = make_monitor(self._trt, self._report, self._stop)
            config.progress_monitor = monitor  # TensorRT does not keep it alive: `run` does
        cache = self._begin_timings(config)
        content = builder.build_serialized_network(network, config)
        if content is None:
            if self._stop.is_set():
                raise EngineError("the build was stopped")
            raise EngineError(f"TensorRT failed to build the engine: {said()}")
        if self._timings is not None and cache is not None:
            self._timings.update(lambda latest: merge_timings(config, cache, latest))
        return Plan(
            content=bytes(memoryview(content)),
            layer_types=_layer_types(network),
            seconds=time.perf_counter() - began,
        )

    def _configure(
        self,
        builder: Any,  # noqa: ANN401 - TensorRT has no types
        config: Any,  # noqa: ANN401
        network: Any,  # noqa: ANN401
        said: Callable[[], str],
    ) -> None:
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
                raise EngineError(
                    f"TensorRT refuses the optimization profile {sizes.name!r}: {said()}"
                )

    def _begin_timings(self, config: Any) -> Any:  # noqa: ANN401
        if self._timings is None:
            return None
        cache = config.create_timing_cache(self._timings.read())
        # One of another GPU or version is refused; then a new one is begun.
        if cache is None or not config.set_timing_cache(cache, False):
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, False)
        return cache


def merge_timings(config: Any, cache: Any, latest: bytes) -> bytes:  # noqa: ANN401
    """A build's timing cache with what other builds have written since it began.

    Args:
        config: the build's configuration, which makes the other cache.
        cache: the build's timing cache; changed.
        latest: the file's content now.

    Returns:
        What to write.
    """
    other = config.create_timing_cache(latest) if latest else None
    if other is not None:
        cache.combine(other, True)
    return bytes(memoryview(cache.serialize()))


def _layer_types(network: Any) -> dict[str, dict[str, int]]:  # noqa: ANN401
    kinds: dict[str, Counter[str]] = {}
    for number in range(network.num_layers):
        layer = network.get_layer(number)
        kind = str(layer.type).rsplit(".", maxsplit=1)[-1]
        for output in range(layer.num_outputs):
            dtype = str(layer.get_output(output).dtype).rsplit(".", maxsplit=1)[-1]
            kinds.setdefault(kind, Counter())[dtype] += 1
    return {kind: dict(counts) for kind, counts in sorted(kinds.items())}
