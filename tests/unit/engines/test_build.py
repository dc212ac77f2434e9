"""Engines of a bundle: built, described as they were built, and written whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from filelock import FileLock

import m2a.engines.build
from m2a.engines.build import Order, build_engines, engine_key
from m2a.engines.machine import Machine, this_machine
from m2a.engines.sidecar import read_engine, read_sidecar
from m2a.engines.tensorrt import Plan, find_tensorrt
from m2a.engines.timing_cache import TimingCacheFile
from m2a.errors import EngineError
from m2a.graphs.float16 import to_float16
from m2a.machine.cuda_driver import CudaDriver, Gpu

TENSORRT = find_tensorrt("rtx")
NO_GPU = Machine(os="linux", arch="x86_64", tensorrt={"rtx": "1.7"}, gpus=())


@pytest.fixture(scope="module")
def order(tiny_graphs):
    return Order(
        precision="fp16",
        graphs={name: to_float16(m).SerializeToString() for name, m in tiny_graphs.items()},
        target="sm86",
        sources={"mask": "1" * 64, "restore": "2" * 64},
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
        return Plan(content=b"engine of " + graph[:20], layer_types=types, seconds=1.0)

    monkeypatch.setattr(m2a.engines.build, "build_plan", build_plan)
    return given


def test_both_engines_are_built_and_described_as_they_are(order, tmp_path):
    folder = build_engines(order, TENSORRT, NO_GPU, tmp_path / "engines")
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
        names.add(build_engines(changed, TENSORRT, NO_GPU, tmp_path).name)
    assert len(names) == 4
    again = build_engines(order, TENSORRT, NO_GPU, tmp_path)
    assert again.name in names


def test_without_a_gpu_and_without_a_target_the_targets_are_named(order, tmp_path):
    with pytest.raises(EngineError, match=r"there is none here; .* --target: sm75, .*sm120"):
        build_engines(replace(order, target=None), TENSORRT, NO_GPU, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_gpu_at_hand_is_the_target(order, tmp_path, planned):
    machine = replace(NO_GPU, gpus=(("8.7", "Orin"),))
    order = replace(order, target=None)
    sidecar = read_sidecar(build_engines(order, TENSORRT, machine, tmp_path))
    assert (sidecar.compute_capability, sidecar.gpu) == ("8.7", "Orin")
    assert {given["target"] for given in planned} == {None}


def test_a_precision_that_the_network_does_not_have_is_no_ones_word(order, tmp_path, planned):
    with pytest.raises(EngineError, match="ordered in fp32 and was parsed in fp16"):
        build_engines(replace(order, precision="fp32"), TENSORRT, NO_GPU, tmp_path)
    assert not list(tmp_path.iterdir())


def test_int8_may_have_left_all_of_one_graph_in_fp32(order, tmp_path, monkeypatch):
    unchanged = hashlib.sha256(order.graphs["mask"]).hexdigest()
    sources = {**order.sources, "mask": unchanged}

    def build_plan(tensorrt, graph, profiles, **settings):
        kinds = {"FLOAT": 9} if graph == order.graphs["mask"] else {"INT8": 9}
        quantised = {} if "FLOAT" in kinds else {"QUANTIZE": {"INT8": 9}}
        types = {"MATRIX_MULTIPLY": kinds, **quantised}
        return Plan(content=b"engine of " + graph[:20], layer_types=types, seconds=1.0)

    monkeypatch.setattr(m2a.engines.build, "build_plan", build_plan)
    int8 = replace(order, precision="int8", sources=sources)
    sidecar = read_sidecar(build_engines(int8, TENSORRT, NO_GPU, tmp_path))
    assert sidecar.precision == "int8"
    with pytest.raises(EngineError, match="mask network was ordered in int8 and was parsed in fp"):
        build_engines(replace(int8, sources=order.sources), TENSORRT, NO_GPU, tmp_path)


def test_a_failed_build_leaves_older_engines_as_they_were(order, tmp_path, planned):
    folder = build_engines(order, TENSORRT, NO_GPU, tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fails(*_, **__):
        raise EngineError("no")

    m2a.engines.build.build_plan = fails  # `planned` puts it back
    with pytest.raises(EngineError, match="no"):
        build_engines(order, TENSORRT, NO_GPU, tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


class TestTimingCacheFile:
    def test_it_keeps_what_is_merged_into_it(self, tmp_path):
        timings = TimingCacheFile(tmp_path / "new" / "a.cache")
        assert timings.read() == b""
        timings.update(lambda latest: latest + b"first ")
        timings.update(lambda latest: latest + b"second")
        assert timings.read() == b"first second"

    def test_a_folder_that_cannot_be_written_costs_nothing_but_the_timings(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        timings = TimingCacheFile(tmp_path / "file" / "a.cache")
        timings.update(lambda latest: b"lost")
        assert timings.read() == b""

    def test_another_process_is_waited_for_and_not_for_ever(self, tmp_path, monkeypatch):
        monkeypatch.setattr("m2a.engines.timing_cache._LOCK_SECONDS", 0.1)
        timings = TimingCacheFile(tmp_path / "a.cache")
        with FileLock(f"{tmp_path / 'a.cache'}.lock"):
            timings.update(lambda latest: b"lost")
        assert timings.read() == b""
        timings.update(lambda latest: b"kept")
        assert timings.read() == b"kept"


def test_the_machine_is_asked_of_packages_and_driver():
    gpu = Gpu(name="RTX A2000", compute_capability="8.6", memory=1)
    machine = this_machine(
        driver=lambda: CudaDriver(version="12.4", gpus=(gpu,)),
        find={"tensorrt-cu12": "10.9", "tensorrt-rtx": "1.7"}.get,
    )
    assert machine.gpus == (("8.6", "RTX A2000"),)
    assert machine.tensorrt == {"trt": "10.9", "rtx": "1.7"}
    assert machine.fault == ""


def test_a_driver_that_does_not_answer_is_not_no_gpu(order, tmp_path):
    broken = this_machine(driver=lambda: CudaDriver(failure="cuInit returned 999"))
    assert broken.fault == "cuInit returned 999"
    with pytest.raises(EngineError, match=r"the driver does not answer \(cuInit returned 999"):
        build_engines(replace(order, target=None), TENSORRT, broken, tmp_path)
    none = this_machine(driver=lambda: CudaDriver(absent=True, failure="libcuda.so is not here"))
    assert none.fault == ""


def test_the_sidecar_is_json_without_surprises(order, tmp_path, planned):
    folder = build_engines(order, TENSORRT, NO_GPU, tmp_path)
    content = json.loads((folder / "engine.json").read_text())
    assert content["schema"] == 1
    assert content["rebuild"][:2] == ["m2a", "build-engine"]
    assert content["graphs"]["mask"]["profiles"]["photo-1k"]["H"] == [32, 704, 1024]
