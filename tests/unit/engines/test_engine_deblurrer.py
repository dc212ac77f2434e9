"""The backend `tensorrt`, with all of it but the driver, the GPU and TensorRT itself."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from engine_cases import MACHINE, add_engines, load_gathering
from masks import draw_mask
from PIL import Image

import m2a
import m2a.engines.deblurrer
from m2a.cli import main
from m2a.engines.deblurrer import open_on_gpu
from m2a.engines.tensorrt_callbacks import shared_logger
from m2a.errors import BackendError, EngineError, MissingDependencyError, UsageError
from m2a.runtime.bundle import open_bundle
from m2a.runtime.loading import open_bundle_on
from m2a.runtime.verify import verify


def picture(shape=(50, 70, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_the_result_is_that_of_the_cpu_bit_for_bit(bundle, gpu):
    add_engines(bundle)
    deblurrer = m2a.load(bundle.path, backend="tensorrt", dilate=2)
    for seed, mask in enumerate([None, draw_mask("random", 50, 70, seed=3)]):
        found = deblurrer(picture(seed=seed), mask=mask)
        expected = load_gathering(bundle.path, dilate=2)(picture(seed=seed), mask=mask)
        assert np.array_equal(found.image, expected.image)
        assert np.array_equal(found.mask, expected.mask)
        assert np.array_equal(found.motion, expected.motion, equal_nan=True)
        assert found.backend == "tensorrt"


def test_the_gpu_is_the_one_that_the_engines_were_built_for(bundle, gpu):
    add_engines(bundle, compute_capability="8.7")
    m2a.load(bundle.path, backend="tensorrt")
    assert gpu.opened == [1]


def test_the_profile_is_that_of_the_counts_and_is_set_when_it_changes(bundle, gpu):
    add_engines(bundle)
    deblurrer = m2a.load(bundle.path, backend="tensorrt")
    few, many = np.zeros((160, 160), bool), np.ones((160, 160), bool)
    few[:40] = True
    for mask in (few, few, many, few):
        deblurrer(picture((160, 160, 3)), mask=mask)
    _, restore = gpu.trt.contexts
    assert restore.profiles_set == [0, 1, 0]  # up to 16k active pixels, then up to 128k


def test_what_no_profile_holds_is_an_error_and_the_next_picture_is_done(bundle, gpu):
    add_engines(bundle)
    deblurrer = m2a.load(bundle.path, backend="tensorrt")
    with pytest.raises(EngineError, match=r"largest profile 'photo-4k' does not hold W = 4128"):
        deblurrer(picture((1, 4100, 3)))
    assert deblurrer(picture()).image.shape == (50, 70, 3)


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ("profile", "the profile 'photo-1k'"),
        ("shape", r"image with the shape \[1, 3, 64, 96\]"),
        ("address", "image"),
        ("work", "the work"),
    ],
)
def test_what_tensorrt_refuses_is_told(bundle, gpu, refused, words):
    add_engines(bundle)
    deblurrer = m2a.load(bundle.path, backend="tensorrt")
    gpu.trt.contexts[0].refuses = {refused}
    with pytest.raises(BackendError, match=f"TensorRT refuses {words} of the mask engine: it give"):
        deblurrer(picture())
    gpu.trt.contexts[0].refuses = set()
    assert deblurrer(picture()).image.shape == (50, 70, 3)


def test_what_tensorrt_said_before_is_not_told_as_the_reason(bundle, gpu):
    add_engines(bundle)
    deblurrer = m2a.load(bundle.path, backend="tensorrt")
    shared_logger(gpu.trt).log(gpu.trt.ILogger.ERROR, "of another picture")
    gpu.trt.contexts[0].refuses = {"work"}
    with pytest.raises(BackendError, match="it gives no reason"):
        deblurrer(picture())


def test_an_engine_that_tensorrt_does_not_take_is_an_error(bundle, gpu, monkeypatch):
    add_engines(bundle)
    monkeypatch.setattr(
        m2a.engines.selection, "read_engine", lambda *_: b"of the right hash, yet no engine"
    )
    with pytest.raises(EngineError, match="does not take the mask engine: Serialization assertion"):
        m2a.load(bundle.path, backend="tensorrt")


def test_engines_with_other_ports_are_refused(bundle, gpu, monkeypatch):
    add_engines(bundle)
    mask = bundle.graph("mask", precision="fp32")
    monkeypatch.setattr(m2a.engines.selection, "read_engine", lambda *_: mask)
    with pytest.raises(EngineError, match=r"restore engine has the ports \['image', 'mask'\]"):
        m2a.load(bundle.path, backend="tensorrt")


def test_engines_with_other_profiles_are_refused(bundle, gpu):
    sidecar = add_engines(bundle)
    graphs = {
        name: replace(graph, profiles=dict(list(graph.profiles.items())[:2]))
        for name, graph in sidecar.graphs.items()
    }
    add_engines(bundle, graphs=graphs)
    with pytest.raises(EngineError, match=r"has 3 profiles, engine\.json tells of 2"):
        m2a.load(bundle.path, backend="tensorrt")


def test_verify_covers_it_stage_by_stage_and_the_one_call(bundle, gpu):
    add_engines(bundle)
    found = verify(bundle, open_bundle_on(bundle, backend="tensorrt"))
    assert (found.failed, found.backend) == (None, "tensorrt")
    assert [stage.name for stage in found.stages][-1] == "picture"


def test_verify_needs_a_picture_where_the_bundle_lacks_the_graphs(bundle, gpu):
    """As the packaged bundle's FP16 engines, whose graphs were made for them alone."""
    add_engines(bundle, precision="fp16")
    deblurrer = open_bundle_on(bundle, backend="tensorrt", precision="fp16")
    with pytest.raises(UsageError, match=r"holds no fp16 graphs .* verify on a picture"):
        verify(bundle, deblurrer)
    assert verify(bundle, deblurrer, picture()).failed is None


def test_the_command_line_runs_it(bundle, gpu, tmp_path):
    add_engines(bundle)
    Image.fromarray(picture()).save(tmp_path / "in.png")
    command = ["run", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png")]
    options = ["--bundle", str(bundle.path), "--backend", "tensorrt", "--dilate", "2", "--json"]
    done = CliRunner().invoke(main, [*command, *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["backend"] == "tensorrt"
    expected = load_gathering(bundle.path, dilate=2)(picture())
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), expected.image)


class TestRefusals:
    """One clear error each, and nothing falls back unasked."""

    def open(self, bundle, machine=MACHINE, precision="fp32"):
        return open_on_gpu(
            bundle, precision=precision, threshold=0.5, dilate=4, max_memory=2**31, machine=machine
        )

    def test_without_a_gpu(self, bundle):
        with pytest.raises(BackendError, match="'tensorrt' needs an NVIDIA GPU: there is none he"):
            self.open(bundle, replace(MACHINE, gpus=()))

    def test_with_a_driver_that_does_not_answer(self, bundle):
        machine = replace(MACHINE, gpus=(), fault="cuInit returned 999")
        with pytest.raises(BackendError, match=r"does not answer \(cuInit returned 999"):
            self.open(bundle, machine)

    def test_without_pycuda(self, bundle, monkeypatch):
        def missing(name):
            raise ModuleNotFoundError("No module named 'pycuda'", name="pycuda")

        monkeypatch.setattr("importlib.import_module", missing)
        with pytest.raises(
            MissingDependencyError, match=r"'pycuda'.*pip install -e '\.\[tensorrt\]'"
        ):
            self.open(bundle)

    def test_without_tensorrt(self, bundle, gpu):
        with pytest.raises(MissingDependencyError, match=r"'tensorrt'.*'\.\[tensorrt\]'"):
            self.open(bundle, replace(MACHINE, tensorrt={}))

    def test_without_engines(self, bundle, gpu):
        with pytest.raises(EngineError, match="m2a build-engine --fp16"):
            self.open(bundle, precision="fp16")
        assert not gpu.opened

    def test_a_fallback_is_an_error_unless_it_is_allowed(self, bundle, gpu):
        with pytest.raises(EngineError, match="found no fp32 engines"):
            m2a.load(bundle.path, backend="tensorrt")
        deblurrer = m2a.load(bundle.path, backend="tensorrt", allow_fallback=True)
        assert deblurrer.backend == "ort-cpu"
        assert deblurrer(picture()).backend == "ort-cpu"

    def test_a_threshold_out_of_range_is_a_misuse_and_no_fallback(self, bundle, gpu):
        add_engines(bundle)
        with pytest.raises(UsageError, match="threshold"):
            m2a.load(bundle.path, backend="tensorrt", threshold=2.0, allow_fallback=True)

    def test_on_the_command_line(self, bundle, gpu, tmp_path):
        Image.fromarray(picture()).save(tmp_path / "in.png")
        command = ["run", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png")]
        done = CliRunner().invoke(
            main, [*command, "--bundle", str(bundle.path), "--backend", "tensorrt"]
        )
        assert done.exit_code == 1
        assert "m2a build-engine --fp32" in done.output
        assert not (tmp_path / "out.png").exists()


def test_an_unknown_backend_lists_this_one_too(bundle):
    with pytest.raises(UsageError, match=r"unknown backend 'cuda'; known are .*, tensorrt"):
        open_bundle_on(open_bundle(bundle.path), backend="cuda")
