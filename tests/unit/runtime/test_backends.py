"""Backends: the one asked for is the one used, or an error."""

from __future__ import annotations

import dataclasses
import importlib
import sys

import numpy as np
import onnxruntime
import pytest

from m2a.errors import BackendError, MissingDependencyError, UsageError
from m2a.graphs.for_cpu import rewrite_for_cpu
from m2a.runtime.backends import BACKENDS, open_runners
from m2a.runtime.bundle import open_bundle
from m2a.runtime.loading import load


@pytest.fixture(scope="module")
def graph(tiny_bundle):
    return open_bundle(tiny_bundle).graph("mask", precision="fp32")


def open_one(graph, **options):
    (runner,) = open_runners([graph], **options)
    return runner


def feeds(side=64):
    image = np.random.default_rng(0).random((1, 3, side, side), dtype=np.float32)
    return {"image": image}


@pytest.fixture
def without_cuda(monkeypatch):
    """As on a machine that has the CPU alone."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])


@pytest.fixture
def seemingly_with_cuda(monkeypatch):
    """As where the GPU package is installed, whatever becomes of its libraries."""
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)


def test_the_default_computes_on_the_cpu(graph, tiny_bundle):
    runner = open_one(graph, backend="ort-cpu")
    assert runner.backend == "ort-cpu"
    assert load(tiny_bundle).fallback_reason is None
    (probability,) = runner.run(feeds()).values()
    assert probability.shape == (1, 1, 64, 64)
    assert probability.dtype == np.float32


def test_an_unknown_backend_is_a_misuse_and_the_known_are_listed(graph):
    with pytest.raises(UsageError) as caught:
        open_one(graph, backend="cuda")
    assert "'cuda'" in str(caught.value)
    assert all(name in str(caught.value) for name in BACKENDS)


@pytest.mark.usefixtures("without_cuda")
@pytest.mark.parametrize("backend", ["ort-cuda", "ort-tensorrt"])
def test_a_backend_that_is_not_here_is_an_error_that_names_the_extra(graph, backend):
    with pytest.raises(BackendError, match=r"\.\[gpu\]"):
        open_one(graph, backend=backend)


@pytest.mark.usefixtures("without_cuda")
def test_a_fallback_that_was_allowed_says_who_computes(tiny_bundle):
    deblurrer = load(tiny_bundle, backend="ort-cuda", allow_fallback=True)
    assert deblurrer.backend == "ort-cpu"
    probability = deblurrer(np.zeros((64, 64, 3), np.uint8)).probability
    assert probability.shape == (64, 64)


@pytest.mark.usefixtures("seemingly_with_cuda")
def test_a_provider_that_silently_became_the_cpu_is_an_error(graph, monkeypatch):
    """ONNX Runtime goes on with the CPU where CUDA's libraries do not load."""
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, providers, **_: session(
            model, options, providers=["CPUExecutionProvider"]
        ),
    )
    with pytest.raises(BackendError, match="opened CPUExecutionProvider instead"):
        open_one(graph, backend="ort-cuda")


@pytest.mark.usefixtures("seemingly_with_cuda")
def test_a_gpus_libraries_are_loaded_in_silence(graph, monkeypatch, capfd):
    asked = []

    def preload():
        asked.append(1)
        sys.stdout.write("Failed to load libcublasLt.so.13\n")
        raise OSError("libcublasLt.so.13")

    monkeypatch.setattr("onnxruntime.preload_dlls", preload, raising=False)
    open_runners([graph], backend="ort-cpu")
    assert not asked
    here = dataclasses.replace(BACKENDS["ort-cuda"], provider="CPUExecutionProvider", options={})
    monkeypatch.setitem(BACKENDS, "ort-cuda", dataclasses.replace(here, memory=None))
    open_runners([graph], backend="ort-cuda")
    assert asked
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("seemingly_with_cuda")
def test_where_one_graph_falls_back_all_do(tiny_bundle, monkeypatch):
    """A provider that takes the first graph and not the second must not split the pipeline."""
    session = onnxruntime.InferenceSession

    class Picky:
        opened = 0

        def __init__(self, model, options, providers, **_):
            self.asked = providers[0][0]
            Picky.opened += 1
            if self.asked.startswith("CUDA") and Picky.opened > 1:
                raise RuntimeError("this graph is too much")
            self.session = session(model, options, providers=["CPUExecutionProvider"])

        def get_providers(self):
            return [self.asked]

        def __getattr__(self, name):
            return getattr(self.session, name)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Picky)
    deblurrer = load(tiny_bundle, backend="ort-cuda", allow_fallback=True)
    assert Picky.opened > 3  # two on CUDA, of which the second failed, and two on the CPU
    runners = [deblurrer._mask, deblurrer.gathered._runner]
    assert [runner.backend for runner in runners] == ["ort-cpu", "ort-cpu"]


def test_a_session_has_the_cores_of_the_process_unless_told(graph, monkeypatch):
    session, threads = onnxruntime.InferenceSession, []

    def counting(model, options, **settings):
        threads.append(options.intra_op_num_threads)
        return session(model, options, **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", counting)
    monkeypatch.setattr("m2a.runtime.backends.usable_cores", lambda: 3)
    open_one(graph, backend="ort-cpu")
    open_runners([graph], backend="ort-cpu", threads=2)
    assert threads == [3, 2]


def test_the_unoptimised_graph_gives_the_same_numbers(graph):
    fast = open_one(graph, backend="ort-cpu")
    slow = open_one(graph, backend="ort-cpu", optimize=False)
    # Float32: fused convolutions add in another order.
    assert np.abs(fast.run(feeds())["mask"] - slow.run(feeds())["mask"]).max() <= 1e-5


def test_a_graph_is_rewritten_for_the_cpu_but_not_where_it_is_the_reference(graph, monkeypatch):
    rewritten = []

    def rewrite(content):
        rewritten.append(content)
        return content

    chosen = BACKENDS["ort-cpu"]
    assert chosen.rewrite is rewrite_for_cpu
    monkeypatch.setitem(BACKENDS, "ort-cpu", dataclasses.replace(chosen, rewrite=rewrite))
    open_one(graph, backend="ort-cpu", optimize=False)
    assert rewritten == []
    open_one(graph, backend="ort-cpu")
    assert rewritten == [graph]


def test_one_runner_takes_pictures_of_several_sizes(graph):
    runner = open_one(graph, backend="ort-cpu")
    for side in (32, 96, 64):
        assert runner.run(feeds(side))["mask"].shape == (1, 1, side, side)


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_a_graph_that_cannot_be_opened_is_an_error_on_one_line(content):
    with pytest.raises(BackendError, match="cannot open the graph") as caught:
        open_one(content, backend="ort-cpu")
    assert "\n" not in str(caught.value)


def test_a_computation_that_fails_is_an_error(graph):
    runner = open_one(graph, backend="ort-cpu")
    with pytest.raises(BackendError, match="ort-cpu failed"):
        runner.run({"image": np.zeros((1, 4, 32, 32), np.float32)})


def test_a_missing_runtime_names_the_extra(graph, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=r"pip install -e '\.\[cpu\]'"):
        open_one(graph, backend="ort-cpu")


@pytest.mark.parametrize("name", BACKENDS)
def test_float32_means_float32(name):
    """No provider may round products to TF32."""
    assert BACKENDS[name].options.get("use_tf32", "0") == "0"
