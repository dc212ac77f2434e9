"""The configurations, read by Triton's own schema."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc")

from triton_repositories import config_of, files_of
from tritonclient.grpc import model_config_pb2 as schema

from m2a.graphs.contract import CONTRACTS
from m2a.runtime.backends import open_runners
from m2a.runtime.bundle import GRAPHS, open_bundle

TYPES = {
    schema.TYPE_UINT8: np.uint8,
    schema.TYPE_FP32: np.float32,
    schema.TYPE_INT32: np.int32,
}
CONTRACT_TYPES = {"float32": schema.TYPE_FP32, "int32": schema.TYPE_INT32}


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def files(bundle):
    return files_of(bundle)


def ports(found):
    return {port.name: (port.data_type, tuple(port.dims)) for port in found}


def warmed(files, config):
    """The sample of a model, read as the server reads it."""
    (warmup,) = config.model_warmup
    assert warmup.batch_size == 1  # 0 would be passed over
    sample = {}
    for name, tensor in warmup.inputs.items():
        content = files[f"{config.name}/warmup/{tensor.input_data_file}"]
        sample[name] = np.frombuffer(content, TYPES[tensor.data_type]).reshape(tensor.dims)
    return sample


@pytest.mark.parametrize("backend", ["onnx", "python"])
def test_every_model_is_named_as_its_folder_and_has_no_batch(bundle, backend):
    files = files_of(bundle, backend=backend)
    models = {name.split("/")[0] for name in files if "/" in name}
    parts = set() if backend == "python" else {"m2a_mask", "m2a_restore"}
    assert models == {"m2a", "m2a_file", *parts}
    for model in models:
        config = config_of(files, model)
        assert (config.name, config.max_batch_size) == (model, 0)


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_graph_has_the_ports_of_the_contract(files, graph):
    config = config_of(files, f"m2a_{graph}")
    for found, expected in (
        (config.input, CONTRACTS[graph].inputs),
        (config.output, CONTRACTS[graph].outputs),
    ):
        assert ports(found) == {
            port.name: (
                CONTRACT_TYPES[port.dtype],
                tuple(side if isinstance(side, int) else -1 for side in port.shape),
            )
            for port in expected
        }


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_graph_is_warmed_up_with_what_it_can_compute(files, bundle, graph):
    """The tables of the restoration graph point at each other: zeros would read past their end."""
    config = config_of(files, f"m2a_{graph}")
    sample = warmed(files, config)
    (runner,) = open_runners([files[f"m2a_{graph}/1/model.onnx"]], backend="ort-cpu")
    outputs = runner.run(sample)
    reference = bundle.reference()
    if graph == "mask":
        height, width = reference.mask.shape
        found = outputs["mask"][0, 0, :height, :width]
        np.testing.assert_allclose(found, reference.probability, atol=1e-4)
    else:
        expected = reference.residual[reference.mask]
        np.testing.assert_allclose(outputs["residual"], expected, atol=1e-4)


def test_the_onnx_models_run_by_onnx_runtime_without_tf32(files):
    for graph in GRAPHS:
        config = config_of(files, f"m2a_{graph}")
        assert (config.backend, config.default_model_filename) == ("onnxruntime", "model.onnx")
        (cuda,) = config.optimization.execution_accelerators.gpu_execution_accelerator
        assert (cuda.name, dict(cuda.parameters)) == ("cuda", {"use_tf32": "0"})
        assert config.version_policy.WhichOneof("policy_choice") == "all"


def test_threads_go_to_who_computes(bundle):
    files = files_of(bundle, threads=3)
    for graph in GRAPHS:
        parameters = config_of(files, f"m2a_{graph}").parameters
        assert parameters["intra_op_thread_count"].string_value == "3"
    for backend in ("onnx", "python"):
        config = config_of(files_of(bundle, threads=3, backend=backend), "m2a")
        assert config.parameters["threads"].string_value == "3"


@pytest.mark.parametrize(
    ("model", "port", "kind", "dims"),
    [
        ("m2a", "image", schema.TYPE_UINT8, (-1, -1, -1)),
        ("m2a_file", "file", schema.TYPE_STRING, (1,)),
    ],
)
def test_what_clients_ask_with_and_get(bundle, model, port, kind, dims):
    config = config_of(files_of(bundle, instances=4), model)
    assert ports(config.input) == {
        port: (kind, dims),
        "threshold": (schema.TYPE_FP32, (1,)),
        "dilate": (schema.TYPE_INT32, (1,)),
    }
    assert {each.name for each in config.input if each.optional} == {"threshold", "dilate"}
    assert ports(config.output) == {
        port: (kind, dims),
        "mask": (schema.TYPE_BOOL, (-1, -1)),
        "motion": (schema.TYPE_FP32, (-1, -1, 4)),
    }
    (group,) = config.instance_group
    assert (group.count, group.kind) == (4, schema.ModelInstanceGroup.KIND_CPU)
    assert config.version_policy.latest.num_versions == 1


def test_only_a_model_that_asks_no_other_is_warmed_up(bundle, files):
    assert not config_of(files, "m2a").model_warmup
    in_process = files_of(bundle, backend="python")
    sample = warmed(in_process, config_of(in_process, "m2a"))
    np.testing.assert_array_equal(sample["image"], bundle.reference().image)
