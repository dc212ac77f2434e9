"""Engines for a server: made up, since no TensorRT is here to run any."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

pytest.importorskip("tritonclient.grpc")

from engine_cases import add_engines
from triton_repositories import config_of, files_of
from tritonclient.grpc import model_config_pb2 as schema

from m2a.engines.profiles import default_profiles
from m2a.errors import EngineError
from m2a.runtime.bundle import GRAPHS, open_bundle
from m2a.triton.plans import find_plans, memory_within_profiles


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return open_bundle(shutil.copytree(tiny_bundle, tmp_path / "copied"))


def test_each_kind_of_gpu_gets_its_engine(bundle):
    add_engines(bundle, "trt10.3.0-fp32-sm87", compute_capability="8.7")
    add_engines(bundle, "trt10.3.0-fp32-sm90", compute_capability="9.0")
    files = files_of(bundle, backend="tensorrt")
    for graph in GRAPHS:
        config = config_of(files, f"m2a_{graph}")
        assert (config.backend, config.platform) == ("tensorrt", "tensorrt_plan")
        plans = {"8.7": "model-8.7.plan", "9.0": "model-9.0.plan"}
        assert dict(config.cc_model_filenames) == plans
        for plan in plans.values():
            expected = bundle.graph(graph, precision="fp32")  # what `add_engines` takes for one
            assert files[f"m2a_{graph}/1/{plan}"] == expected
        assert config.parameters["tensorrt"].string_value == "10.3.0"


def test_the_server_may_choose_among_all_profiles(bundle):
    add_engines(bundle)
    files = files_of(bundle, backend="tensorrt")
    for graph in GRAPHS:
        (group,) = config_of(files, f"m2a_{graph}").instance_group
        assert group.kind == schema.ModelInstanceGroup.KIND_GPU
        assert list(group.profile) == [str(n) for n in range(len(default_profiles(graph)))]


def test_parts_keep_within_the_profiles_unless_told_otherwise(bundle):
    sidecar = add_engines(bundle)
    memory = memory_within_profiles(bundle, sidecar)
    # The mask network of a picture of 4096 × 4096 pixels, the largest profile, is what binds.
    assert memory == min(
        4096**2 * bundle.network.mask_bytes,
        2**20 * bundle.network.restore_bytes,
        4096**2 * bundle.network.area_bytes,
    )
    for told, expected in ((None, memory), (2**30, 2**30)):
        files = files_of(bundle, backend="tensorrt", max_memory=told)
        found = config_of(files, "m2a").parameters["max_memory"].string_value
        assert int(found) == expected


def test_of_two_for_one_gpu_the_later_is_taken(bundle):
    add_engines(bundle, "a", settings={"turn": 2})
    add_engines(bundle, "b", settings={"turn": 1})
    os.utime(bundle.path / "engines" / "b" / "engine.json", ns=(0, 0))
    assert find_plans(bundle, precision="fp32").sidecar.settings == {"turn": 2}


@pytest.mark.parametrize("suffix", ["new", "old"])
def test_engines_that_are_being_written_or_were_set_aside_are_none(bundle, suffix):
    add_engines(bundle, f".trt10.3.0-fp32-sm87.0123abcd.{suffix}")
    with pytest.raises(EngineError, match="found no fp32 engines"):
        find_plans(bundle, precision="fp32")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"flavour": "rtx"}, "TensorRT for RTX, which Triton has no backend for"),
        ({"os": "windows"}, "built for windows"),
        ({"precision": "fp16"}, "built in fp16"),
        ({"sources": {"mask": "0", "restore": "0"}}, "graphs changed since: mask and restore"),
    ],
)
def test_what_a_server_cannot_load_is_refused_with_the_reason(bundle, changes, reason):
    add_engines(bundle, **changes)
    with pytest.raises(EngineError, match=f"{reason}.*m2a build-engine --fp32 --flavour trt"):
        find_plans(bundle, precision="fp32")


def test_without_engines_the_command_is_told(bundle):
    with pytest.raises(
        EngineError,
        match="found no fp16 engines .* m2a build-engine --fp16".replace(" m2a", " `m2a"),
    ):
        find_plans(bundle, precision="fp16")


def test_one_version_of_tensorrt(bundle):
    add_engines(bundle, "a", compute_capability="8.7")
    add_engines(bundle, "b", compute_capability="9.0", version="10.9.0")
    with pytest.raises(EngineError, match=r"of TensorRT 10\.3\.0 and 10\.9\.0, expected one"):
        find_plans(bundle, precision="fp32")


def test_an_engine_that_was_changed_is_refused(bundle):
    add_engines(bundle, "a")
    (bundle.path / "engines" / "a" / "mask.engine").write_bytes(b"another")
    with pytest.raises(EngineError, match="not the engine that was built"):
        find_plans(bundle, precision="fp32")


def test_profiles_of_other_dimensions_are_refused(bundle):
    sidecar = add_engines(bundle)
    mask = replace(sidecar.graphs["mask"], profiles={"odd": {"Z": (1, 1, 1)}})
    odd = replace(sidecar, graphs={**sidecar.graphs, "mask": mask})
    with pytest.raises(EngineError, match="no profile of 'mask' has the dimension H"):
        memory_within_profiles(bundle, odd)
