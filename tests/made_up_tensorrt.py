"""A TensorRT made up for tests: its engines are ONNX graphs, computed in the emulated memory.

It has the names and signatures of TensorRT 10.3 to 11, insists on what their documentation says
about the order of the calls, and computes with ONNX Runtime.
"""

from __future__ import annotations

import types

import numpy as np
import onnx
from emulated_device import at

from m2a.runtime.backends import open_runners
from m2a.runtime.gpu.device import Address, Tensor

NUMPY = {"FLOAT": np.float32, "INT32": np.int32}


def make_tensorrt(version="10.3.0", *, profiles=3):
    """The module; `module.contexts` are all execution contexts, in the order of their making."""
    trt = types.ModuleType("tensorrt")
    trt.__version__ = version
    trt.contexts = []

    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING = range(3)

        def __init__(self):
            pass

    class Runtime:
        def __init__(self, logger):
            assert isinstance(logger, ILogger)
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine):
            try:
                return ICudaEngine(onnx.load_from_string(serialized_engine))
            except Exception:
                self._logger.log(ILogger.ERROR, "Serialization assertion failed")
                return None

    class ICudaEngine:
        def __init__(self, model):
            self._model = model
            self._inputs = list(model.graph.input)
            self._ports = {v.name: v for v in (*self._inputs, *model.graph.output)}
            self.num_io_tensors = len(self._ports)
            self.num_optimization_profiles = profiles

        def get_tensor_name(self, index):
            return list(self._ports)[index]

        def get_tensor_mode(self, name):
            inputs = {value.name for value in self._inputs}
            return TensorIOMode.INPUT if name in inputs else TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name):
            kind = self._ports[name].type.tensor_type.elem_type
            return {onnx.TensorProto.FLOAT: DataType.FLOAT, onnx.TensorProto.INT32: DataType.INT32}[
                kind
            ]

        def create_execution_context(self, strategy):
            assert strategy == ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
            trt.contexts.append(IExecutionContext(self, self._model))
            return trt.contexts[-1]

    class IExecutionContext:
        def __init__(self, engine, model):
            self._engine = engine
            self._names = [engine.get_tensor_name(n) for n in range(engine.num_io_tensors)]
            (self._runner,) = open_runners([model.SerializeToString()], backend="ort-cpu")
            self._shapes, self._addresses = {}, {}
            self.profiles_set, self.refuses = [], set()

        def set_optimization_profile_async(self, profile_index, stream_handle):
            assert isinstance(profile_index, int)
            assert stream_handle == STREAM
            self.profiles_set.append(profile_index)
            self._shapes = {}  # a new profile forgets the shapes
            return "profile" not in self.refuses

        def set_input_shape(self, name, shape):
            assert self.profiles_set, "the profile comes before the shapes"
            assert isinstance(shape, tuple)
            assert self._engine.get_tensor_mode(name) == TensorIOMode.INPUT
            self._shapes[name] = shape
            return "shape" not in self.refuses

        def set_tensor_address(self, name, memory):
            assert name in self._names
            assert type(memory) is int
            assert memory % 256 == 0
            self._addresses[name] = memory
            return "address" not in self.refuses

        def execute_async_v3(self, stream_handle):
            assert stream_handle == STREAM
            assert self._addresses.keys() == set(self._names)
            feeds = {}
            for name, shape in self._shapes.items():
                dtype = NUMPY[self._engine.get_tensor_dtype(name)]
                feeds[name] = self._at(name, shape, dtype).copy()
            if "work" in self.refuses:
                return False
            for name, found in self._runner.run(feeds).items():
                self._at(name, found.shape, np.float32)[...] = found
            return True

        def _at(self, name, shape, dtype):
            return at(Tensor(address=Address(self._addresses[name]), shape=shape), dtype)

    TensorIOMode = types.SimpleNamespace(INPUT="in", OUTPUT="out")  # noqa: N806 - TensorRT's name
    DataType = types.SimpleNamespace(FLOAT="FLOAT", INT32="INT32")  # noqa: N806
    ExecutionContextAllocationStrategy = types.SimpleNamespace(ON_PROFILE_CHANGE=1)  # noqa: N806
    for name, value in list(locals().items()):
        if name[0].isupper():
            setattr(trt, name, value)
    return trt


STREAM = 0x5EED
"""The handle of the only stream."""
