"""Which engines are run: those that nothing is known against, or an error with every reason."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from engine_cases import MACHINE, add_engines

import m2a.engines.selection
from m2a.engines.deblurrer import choose_precision
from m2a.engines.selection import MissingEnginesError, choose_engines, engines_folder
from m2a.errors import EngineError
from m2a.runtime.bundle import GRAPHS, PACKAGED, open_bundle


def test_engines_lie_in_their_bundle_or_in_the_cache(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert engines_folder(open_bundle(tiny_bundle)) == tiny_bundle / "engines"
    assert engines_folder(open_bundle(PACKAGED)) == tmp_path / "m2a" / "engines"


def test_the_packaged_models_engines_need_a_place(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(m2a.engines.selection, "cache_folder", nowhere)
    with pytest.raises(EngineError, match="set XDG_CACHE_HOME"):
        engines_folder(open_bundle(PACKAGED))


def test_engines_that_nothing_is_known_against_are_taken(bundle):
    sidecar = add_engines(bundle)
    chosen = choose_engines(bundle, precision="fp32", machine=MACHINE)
    assert chosen.sidecar == sidecar
    assert chosen.contents == {name: bundle.graph(name, precision="fp32") for name in GRAPHS}


def test_of_several_those_built_last_are_taken(bundle):
    for age, name in ((300, "b"), (100, "a"), (200, "c")):
        add_engines(bundle, name)
        file = bundle.path / "engines" / name / "engine.json"
        os.utime(file, (10**9 - age, 10**9 - age))
    assert choose_engines(bundle, precision="fp32", machine=MACHINE).folder.name == "a"


@pytest.mark.parametrize("suffix", ["new", "old"])
def test_engines_that_are_being_written_or_were_set_aside_are_none(bundle, suffix):
    add_engines(bundle, f".trt10.3.0-fp32-sm87.0123abcd.{suffix}")
    with pytest.raises(MissingEnginesError, match="found no fp32 engines"):
        choose_engines(bundle, precision="fp32", machine=MACHINE)


def test_engines_that_would_not_run_do_not_hide_those_that_do(bundle):
    add_engines(bundle, "a", compute_capability="8.7")
    add_engines(bundle, "b", compute_capability="12.0")
    assert choose_engines(bundle, precision="fp32", machine=MACHINE).folder.name == "a"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"compute_capability": "8.6"}, "built for compute capability 8.6, found RTX 4090"),
        ({"version": "10.9.0"}, "built by TensorRT 10.9.0, 10.3.0 is installed"),
        ({"flavour": "rtx"}, "needs TensorRT for RTX 10.3.0, which is not installed"),
        ({"os": "windows"}, "built for windows on x86_64, this is linux"),
        ({"sources": dict.fromkeys(GRAPHS, "0" * 64)}, "the bundle's graphs changed since: mask"),
    ],
)
def test_each_reason_is_told_with_the_command_that_rebuilds(bundle, changes, reason):
    add_engines(bundle, **changes)
    with pytest.raises(EngineError) as caught:
        choose_engines(bundle, precision="fp32", machine=MACHINE)
    assert reason in str(caught.value)
    assert str(caught.value).endswith("Build them again: m2a build-engine --fp32")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_changed_byte_is_refused_before_anything_is_loaded(bundle, name):
    add_engines(bundle)
    (path,) = bundle.path.glob(f"engines/*/{name}.engine")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(EngineError, match=rf"{name}\.engine is not the engine that was built.*m2a"):
        choose_engines(bundle, precision="fp32", machine=MACHINE)


def test_without_engines_the_command_that_builds_them_is_named(bundle):
    expected = f"--fp16 --bundle {bundle.path}"
    with pytest.raises(
        EngineError, match=f"found no fp16 engines in .*m2a build-engine {expected}"
    ):
        choose_engines(bundle, precision="fp16", machine=MACHINE)


def test_the_command_for_int8_names_photos_where_the_graphs_are_to_be_made(
    bundle, tmp_path, monkeypatch
):
    """As in the packaged bundle, which holds none: without photos the command would be refused."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for held in (bundle, open_bundle(PACKAGED)):
        with pytest.raises(MissingEnginesError, match=r"--int8 --bundle \S+ --calibration PHOTOS$"):
            choose_engines(held, precision="int8", machine=MACHINE)
    calibrated = replace(bundle, graphs={**bundle.graphs, "int8": bundle.graphs["fp32"]})
    with pytest.raises(MissingEnginesError, match=rf"--int8 --bundle {bundle.path}$"):
        choose_engines(calibrated, precision="int8", machine=MACHINE)


def test_better_engines_that_are_passed_over_are_told(bundle):
    """A stale INT8 engine is no reason to be slower and say nothing."""
    add_engines(bundle)
    add_engines(bundle, "new", precision="int8", sources=dict.fromkeys(GRAPHS, "0" * 64))
    calibrated = replace(bundle, graphs={**bundle.graphs, "int8": bundle.graphs["fp32"]})
    chosen = choose_precision(calibrated, ("int8", "fp16", "fp32"), machine=MACHINE)
    assert chosen.precision == "fp32"
    words = chosen.reason
    assert words.startswith("fp32, the best verified engines that run here; the int8 engines in")
    assert "the bundle's graphs changed since: mask" in words
    assert "fp16" not in words  # of which there are none


@pytest.mark.parametrize("verified", [("int8", "fp16", "fp32"), ("fp16", "fp32")])
def test_engines_that_may_be_better_and_cannot_be_read_are_told_once(bundle, verified):
    add_engines(bundle)
    add_engines(bundle, "stale", precision="int8", sources=dict.fromkeys(GRAPHS, "0" * 64))
    damaged = bundle.path / "engines" / "damaged" / "engine.json"
    damaged.parent.mkdir()
    damaged.write_text('{"precision": "fp16"')
    chosen = choose_precision(bundle, verified, machine=MACHINE)
    assert chosen.precision == "fp32"
    assert chosen.reason.count(f"{damaged} is not JSON") == 1
    assert choose_precision(bundle, ("fp32",), machine=MACHINE).reason.endswith("that run here")
    with pytest.raises(EngineError, match=r"int8 engines in .* will not run.*Build.*is not JSON"):
        choose_engines(bundle, precision="int8", machine=MACHINE)


def test_engines_of_another_precision_are_named_and_not_taken(bundle):
    add_engines(bundle)
    with pytest.raises(EngineError, match=r"found no fp16 engines in .*; there are fp32 ones"):
        choose_engines(bundle, precision="fp16", machine=MACHINE)


def test_a_description_that_cannot_be_read_is_told(bundle):
    add_engines(bundle)
    (file,) = bundle.path.glob("engines/*/engine.json")
    file.write_text("{")
    with pytest.raises(EngineError, match=r"found no fp32 engines.*is not JSON"):
        choose_engines(bundle, precision="fp32", machine=MACHINE)


def test_a_machine_without_a_gpu_is_a_reason(bundle):
    add_engines(bundle)
    with pytest.raises(EngineError, match=r"a GPU of compute capability 8\.7: there is none here"):
        choose_engines(bundle, precision="fp32", machine=replace(MACHINE, gpus=()))
