"""Engines of a bundle: built, described as they were built, and written whole."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import m2a.engines.build
from m2a.engines import Machine, Order, build_engines, engines_folder, find_tensorrt, read_sidecar
from m2a.engines.build import engine_key, precision_as_built
from m2a.engines.machine import this_machine
from m2a.engines.sidecar import read_engine
from m2a.engines.tensorrt import Plan
from m2a.errors import EngineError
from m2a.graphs.float16 import to_float16
from m2a.machine.cuda_driver import CudaDriver, Gpu
from m2a.runtime.bundle import PACKAGED, open_bundle

NO_GPU = Machine(os="linux", arch="x86_64", tensorrt={"rtx": "1.7"}, gpus=())


@pytest.fixture(scope="module")
def order(tiny_graphs):
    return Order(
        precision="fp16",
        graphs={name: to_float16(m).SerializeToString() for name, m in tiny_graphs.items()},
        target="sm86",
        workspace=1 << 30,
        rebuild=("m2a", "build-engine", "--fp16", "--target", "sm86"),
    )


@pytest.fixture
def planned(monkeypatch):
    """Builds take no time; what they were given is kept."""
    given = []

    def build_plan(tensorrt, graph, profiles, **settings):
        given.append(settings)
        types = {"MATRIX_MULTIPLY": {"HALF": 9, "FLOAT": 2}}
        plan = Plan(content=b"engine of " + graph[:20], layer_types=types, seconds=1.0)
        return plan, b"timings " + str(len(given)).encode()

    monkeypatch.setattr(m2a.engines.build, "build_plan", build_plan)
    return given


def test_both_engines_are_built_and_described_as_they_are(order, tmp_path):
    folder = build_engines(order, find_tensorrt("rtx"), NO_GPU, tmp_path / "engines")
    assert sorted(path.name for path in folder.iterdir()) == [
        "engine.json",
        "mask.engine",
        "restore.engine",
    ]
    sidecar = read_sidecar(folder)
    assert (sidecar.precision, sidecar.precision_source) == ("fp16", "network")
    assert (sidecar.compute_capability, sidecar.gpu) == ("8.6", None)
    assert sidecar.settings["workspace"] == 1 << 30
    assert sidecar.graphs["restore"].layer_types["NORMALIZATION"].keys() == {"FLOAT"}
    for name in ("mask", "restore"):
        assert len(read_engine(folder, sidecar, name)) == sidecar.graphs[name].bytes
    assert folder.name == engine_key(sidecar)
    assert folder.name.startswith(f"rtx{sidecar.version}-fp16-sm86-linux-x86_64-")
    assert list(folder.parent.iterdir()) == [folder]


def test_the_key_tells_what_made_the_engines(order, tmp_path, planned):
    names = set()
    for changed in (
        order,
        replace(order, target="sm120"),
        replace(order, workspace=None),
        replace(order, graphs={**order.graphs, "mask": b"other"}),
    ):
        names.add(build_engines(changed, find_tensorrt("rtx"), NO_GPU, tmp_path).name)
    assert len(names) == 4
    again = build_engines(order, find_tensorrt("rtx"), NO_GPU, tmp_path)
    assert again.name in names


def test_without_a_gpu_and_without_a_target_the_targets_are_named(order, tmp_path):
    with pytest.raises(EngineError, match=r"there is none here; .* --target: sm75, .*sm120"):
        build_engines(replace(order, target=None), find_tensorrt("rtx"), NO_GPU, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_gpu_at_hand_is_the_target(order, tmp_path, planned):
    machine = replace(NO_GPU, gpus=(("8.7", "Orin"),))
    order = replace(order, target=None)
    sidecar = read_sidecar(build_engines(order, find_tensorrt("rtx"), machine, tmp_path))
    assert (sidecar.compute_capability, sidecar.gpu) == ("8.7", "Orin")
    assert {given["target"] for given in planned} == {None}


def test_a_precision_that_the_network_does_not_have_is_no_ones_word(order, tmp_path, planned):
    with pytest.raises(EngineError, match="ordered in fp32 and was parsed in fp16"):
        build_engines(replace(order, precision="fp32"), find_tensorrt("rtx"), NO_GPU, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("types", "precision"),
    [
        ({"CONVOLUTION": {"FLOAT": 16}}, "fp32"),
        ({"CONVOLUTION": {"HALF": 16}}, "fp16"),
        ({"MATRIX_MULTIPLY": {"HALF": 28, "FLOAT": 2}}, "fp16"),
        ({"MATRIX_MULTIPLY": {"HALF": 2, "FLOAT": 28}}, "fp32"),
        ({"MATRIX_MULTIPLY": {"FLOAT": 30}, "QUANTIZE": {"INT8": 30}}, "int8"),
        ({"CAST": {"HALF": 30}, "MATRIX_MULTIPLY": {"FLOAT": 1}}, "fp32"),
    ],
)
def test_the_precision_is_that_of_the_products(types, precision):
    assert precision_as_built(types) == precision


def test_the_timing_cache_goes_from_build_to_build(order, tmp_path, planned):
    cache = tmp_path / "cache" / "timing.cache"
    build_engines(order, find_tensorrt("rtx"), NO_GPU, tmp_path, timing_cache=cache)
    assert [given["timing_cache"] for given in planned] == [None, b"timings 1"]
    assert cache.read_bytes() == b"timings 2"


def test_a_failed_build_leaves_engines_and_timings_as_they_were(order, tmp_path, planned):
    tensorrt, cache = find_tensorrt("rtx"), tmp_path / "timing.cache"
    folder = build_engines(order, tensorrt, NO_GPU, tmp_path / "e", timing_cache=cache)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    timings = cache.read_bytes()

    def fails(*_, **__):
        raise EngineError("no")

    m2a.engines.build.build_plan = fails  # `planned` puts it back
    with pytest.raises(EngineError, match="no"):
        build_engines(order, tensorrt, NO_GPU, tmp_path / "e", timing_cache=cache)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert cache.read_bytes() == timings


def test_engines_lie_in_their_bundle_or_in_the_cache(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert engines_folder(open_bundle(tiny_bundle)) == tiny_bundle / "engines"
    assert engines_folder(open_bundle(PACKAGED)) == tmp_path / "m2a" / "engines"


def test_the_machine_is_asked_of_packages_and_driver():
    gpu = Gpu(name="RTX A2000", compute_capability="8.6", memory=1)
    machine = this_machine(driver=lambda: CudaDriver(version="12.4", gpus=(gpu,)))
    assert machine.gpus == (("8.6", "RTX A2000"),)
    assert set(machine.tensorrt) == {"rtx"}
    assert (machine.os, machine.arch) == ("linux", "x86_64")


def test_the_sidecar_is_json_without_surprises(order, tmp_path, planned):
    folder = build_engines(order, find_tensorrt("rtx"), NO_GPU, tmp_path)
    content = json.loads((folder / "engine.json").read_text())
    assert content["schema"] == 1
    assert content["rebuild"][:2] == ["m2a", "build-engine"]
    assert content["graphs"]["mask"]["profiles"]["photo-1k"]["H"] == [32, 704, 1024]
