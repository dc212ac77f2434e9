"""Running an engine: TensorRT's part of the pipeline on a GPU.

Written by the documentation of TensorRT 10.3 to 11 and of TensorRT for RTX, and by the signatures
that the latter's module states. It has **never run**: that takes a GPU. The tests run it against
a TensorRT made up for them, which knows the names and the order of the calls and computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from m2a.engines.profiles import Profile, choose_profile
from m2a.engines.sidecar import BuiltGraph
from m2a.engines.tensorrt import TensorRT
from m2a.engines.tensorrt_callbacks import nothing_collected, shared_logger
from m2a.errors import BackendError, EngineError
from m2a.graphs.contract import CONTRACTS
from m2a.runtime.gpu.device import Tensor

_DTYPES = {"float32": "FLOAT", "int32": "INT32"}
"""The contract's types → TensorRT's."""


class EngineExecution:
    """An engine with its execution context: see `m2a.runtime.gpu.device.Engine`.

    Made and used while the GPU that it runs on is current.

    Args:
        tensorrt: of the flavour and version that built it.
        graph: `mask` or `restore`.
        content: the serialised engine, whose hash was checked: deserialising it runs it.
        built: what `engine.json` says of it.
        stream: the handle of the stream on which everything is queued.

    Raises:
        EngineError: TensorRT does not take it, or its ports or profiles are not those it should
            have.
    """

    def __init__(
        self, tensorrt: TensorRT, graph: str, content: bytes, built: BuiltGraph, *, stream: int
    ) -> None:
        trt = tensorrt.module
        self._graph, self._stream = graph, stream
        self._profiles = recorded_profiles(graph, built)
        # Each of TensorRT's objects needs the one before it for as long as it lives.
        self._logger = shared_logger(trt)
        self._said = self._logger.from_now_on()
        with nothing_collected():
            self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise EngineError(f"TensorRT does not take the {graph} engine: {self._said()}")
        self._check_ports(trt)
        # By default a context takes the memory of the largest profile, whatever is run.
        strategy = trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        self._context = self._engine.create_execution_context(strategy)
        if self._context is None:
            raise EngineError(
                f"TensorRT cannot run the {graph} engine, perhaps for want of memory: "
                f"{self._said()}"
            )
        self._profile: int | None = None

    def enqueue(self, ports: Mapping[str, Tensor]) -> None:
        """See `Engine.enqueue`."""
        contract = CONTRACTS[self._graph]
        self._said = self._logger.from_now_on()
        number = choose_profile(self._profiles, self._sizes(ports))
        if number != self._profile:
            self._profile = None
            self._demand(
                self._context.set_optimization_profile_async(number, self._stream),
                f"the profile {self._profiles[number].name!r}",
            )
            self._profile = number
        for port in contract.inputs:
            shape = ports[port.name].shape
            self._demand(
                self._context.set_input_shape(port.name, shape),
                f"{port.name} with the shape {list(shape)}",
            )
        for port in (*contract.inputs, *contract.outputs):
            address = int(ports[port.name].address)
            self._demand(self._context.set_tensor_address(port.name, address), port.name)
        self._demand(self._context.execute_async_v3(self._stream), "the work")

    def _sizes(self, ports: Mapping[str, Tensor]) -> dict[str, int]:
        """Name of a dynamic dimension → its size."""
        return {
            side: found
            for port in CONTRACTS[self._graph].inputs
            for side, found in zip(port.shape, ports[port.name].shape, strict=True)
            if isinstance(side, str)
        }

    def _demand(self, accepted: bool, what: str) -> None:
        if not accepted:
            raise BackendError(
                f"TensorRT refuses {what} of the {self._graph} engine: {self._said()}"
            )

    def _check_ports(self, trt: Any) -> None:  # noqa: ANN401 - TensorRT has no types
        engine, contract = self._engine, CONTRACTS[self._graph]
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        found = {
            name: (
                engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
                engine.get_tensor_dtype(name),
            )
            for name in names
        }
        expected = {
            port.name: (port in contract.inputs, getattr(trt.DataType, _DTYPES[port.dtype]))
            for port in (*contract.inputs, *contract.outputs)
        }
        if found != expected:
            raise EngineError(
                f"the {self._graph} engine has the ports {sorted(names)}, expected "
                f"{sorted(expected)} with the contract's types; build it again"
            )
        if engine.num_optimization_profiles != len(self._profiles):
            raise EngineError(
                f"the {self._graph} engine has {engine.num_optimization_profiles} profiles, "
                f"engine.json tells of {len(self._profiles)}; build it again"
            )


def recorded_profiles(graph: str, built: BuiltGraph) -> Sequence[Profile]:
    """The profiles of an engine, in its order, from `engine.json`."""
    return tuple(
        Profile(name=name, graph=graph, sizes=sizes) for name, sizes in built.profiles.items()
    )
