"""`config.pbtxt` of each model, as messages of Triton's own schema.

No model has a batch dimension (`max_batch_size` is 0). Pictures differ in size, and so does the
number of their active pixels; the rows of the restoration graph refer to each other by number, so
that two pictures do not stack. Several at a time are several instances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as schema

from m2a.graphs.contract import CONTRACTS, Port
from m2a.triton.settings import part_name
from m2a.triton.warmup import Sample

__all__ = ["FILE", "PICTURE", "Entry", "entry_config", "onnx_config", "plan_config", "to_text"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model that clients ask.

    Attributes:
        name: of the model.
        module: of `m2a.triton.models`, which is the model.
        port: name → (type, shape) of the one input that is required, and of the output like it.
    """

    name: str
    module: str
    port: tuple[str, int, tuple[int, ...]]


PICTURE = Entry(name="m2a", module="picture", port=("image", schema.TYPE_UINT8, (-1, -1, -1)))
"""A picture [H, W, C], uint8: grey, grey + alpha, RGB or RGB + alpha for C = 1, 2, 3, 4."""

FILE = Entry(name="m2a_file", module="file", port=("file", schema.TYPE_STRING, (1,)))
"""The bytes of a picture file, of any kind that `m2a run` reads."""

_OPTIONS = (("threshold", schema.TYPE_FP32), ("dilate", schema.TYPE_INT32))
"""Optional inputs of one number: see `m2a.triton.settings.StitchSettings`."""

_MAPS = (("mask", schema.TYPE_BOOL, (-1, -1)), ("motion", schema.TYPE_FP32, (-1, -1, 4)))
"""`Result.mask` [H, W] and `Result.motion` [H'/4, W'/4, 4]."""

_DTYPES = {"float32": schema.TYPE_FP32, "int32": schema.TYPE_INT32}


def to_text(config: schema.ModelConfig) -> bytes:
    """Returns the content of `config.pbtxt`."""
    text: str = text_format.MessageToString(config)
    return text.encode()


def entry_config(
    entry: Entry, *, parameters: Mapping[str, str], instances: int, sample: Sample
) -> schema.ModelConfig:
    """Returns the configuration of a stitching model.

    Args:
        entry: the model.
        parameters: what it is told, by name.
        instances: processes that stitch at the same time.
        sample: what it is warmed up with; empty for a model that asks others, which the server
            may load later.
    """
    name, dtype, shape = entry.port
    config = _config(entry.name, parameters, backend="python", latest=True)
    config.input.add(name=name, data_type=dtype, dims=shape)
    for option, kind in _OPTIONS:
        config.input.add(name=option, data_type=kind, dims=[1], optional=True)
    config.output.add(name=name, data_type=dtype, dims=shape)
    for output, kind, dims in _MAPS:
        config.output.add(name=output, data_type=kind, dims=dims)
    config.instance_group.add(count=instances, kind=schema.ModelInstanceGroup.KIND_CPU)
    if sample:
        _warm_up(config, sample)
    return config


def onnx_config(
    graph: str,
    *,
    parameters: Mapping[str, str],
    sample: Sample,
    threads: int | None = None,
) -> schema.ModelConfig:
    """Returns the configuration of a graph in Triton's ONNX Runtime backend.

    It runs on the GPU where the server has one, there without TF32, as `m2a.runtime` does.

    Args:
        graph: `mask` or `restore`.
        parameters: what is told about it, by name.
        sample: what it is warmed up with.
        threads: threads of the computation on the CPU; None takes all cores.
    """
    config = _part_config(graph, parameters, backend="onnxruntime", sample=sample)
    config.default_model_filename = "model.onnx"
    config.instance_group.add(count=1)
    accelerators = config.optimization.execution_accelerators
    accelerators.gpu_execution_accelerator.add(name="cuda", parameters={"use_tf32": "0"})
    if threads is not None:
        config.parameters["intra_op_thread_count"].string_value = str(threads)
    return config


def plan_config(
    graph: str,
    *,
    parameters: Mapping[str, str],
    sample: Sample,
    plans: Mapping[str, str],
    profiles: int,
) -> schema.ModelConfig:
    """Returns the configuration of a graph in Triton's TensorRT backend.

    Args:
        graph: `mask` or `restore`.
        parameters: what is told about it, by name.
        sample: what it is warmed up with.
        plans: compute capability → file.
        profiles: how many the plans have; the server takes the one that fits a request best.
    """
    config = _part_config(graph, parameters, backend="tensorrt", sample=sample)
    config.platform = "tensorrt_plan"
    config.cc_model_filenames.update(plans)
    config.instance_group.add(
        count=1,
        kind=schema.ModelInstanceGroup.KIND_GPU,
        profile=[str(number) for number in range(profiles)],
    )
    return config


def _config(
    name: str, parameters: Mapping[str, str], *, backend: str, latest: bool
) -> schema.ModelConfig:
    """What all have. Of the graphs all versions stay loaded: older stitching models ask them."""
    config = schema.ModelConfig(name=name, backend=backend, max_batch_size=0)
    if latest:
        config.version_policy.latest.num_versions = 1
    else:
        config.version_policy.all.SetInParent()
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    return config


def _part_config(
    graph: str, parameters: Mapping[str, str], *, backend: str, sample: Sample
) -> schema.ModelConfig:
    config = _config(part_name(graph), parameters, backend=backend, latest=False)
    for port in CONTRACTS[graph].inputs:
        config.input.add(name=port.name, data_type=_DTYPES[port.dtype], dims=_dims(port))
    for port in CONTRACTS[graph].outputs:
        config.output.add(name=port.name, data_type=_DTYPES[port.dtype], dims=_dims(port))
    _warm_up(config, sample)
    return config


def _dims(port: Port) -> list[int]:
    return [side if isinstance(side, int) else -1 for side in port.shape]


def _warm_up(config: schema.ModelConfig, sample: Sample) -> None:
    warmup = config.model_warmup.add(name="reference", batch_size=1, count=1)
    types = {port.name: port.data_type for port in config.input}
    for name, array in sample.items():
        tensor = warmup.inputs[name]
        tensor.data_type = types[name]
        tensor.dims.extend(array.shape)
        tensor.input_data_file = name
