"""Which ONNX Runtime is installed, and which of its providers really compute."""

from __future__ import annotations

import numpy as np
import pytest

from m2a.diagnosis.finding import Status
from m2a.diagnosis.onnx_runtime import (
    DISTRIBUTIONS,
    backend_findings,
    installation_finding,
    installed_distributions,
)
from m2a.diagnosis.provider_trial import GRAPH, Trial, lacking_library, open_and_run, try_backend
from m2a.runtime.backends import BACKENDS, DEFAULT_BACKEND

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
PROVIDERS = {name: backend.provider for name, backend in BACKENDS.items()}

WORKING = Trial(version="1.20.1", listed=(CPU,))


def judge(*distributions, trial=WORKING, gpu=False):
    return installation_finding(dict(distributions), trial, gpu=gpu)


def test_one_package_that_is_imported_is_good():
    finding = judge(("onnxruntime", "1.20.1"))
    assert (finding.status, finding.remedy) == (Status.GOOD, "")
    assert CPU in finding.found


def test_a_planted_double_installation_is_found(plant):
    plant("onnxruntime", "1.20.1")
    plant("onnxruntime-gpu", "1.19.0")
    installed = installed_distributions()
    assert installed == {"onnxruntime": "1.20.1", "onnxruntime-gpu": "1.19.0"}
    finding = installation_finding(installed, WORKING, gpu=False)
    assert finding.status is Status.BROKEN
    assert "onnxruntime 1.20.1, onnxruntime-gpu 1.19.0" in finding.found
    expected = (
        "in the folder of m2a: pip uninstall -y onnxruntime onnxruntime-gpu && "
        "pip install -e '.[cpu]'"
    )
    assert finding.remedy == expected
    assert installation_finding(installed, WORKING, gpu=True).remedy.endswith("'.[gpu]'")


@pytest.mark.parametrize("other", DISTRIBUTIONS[1:])
def test_every_second_distribution_counts(other):
    assert judge(("onnxruntime", "1"), (other, "1")).status is Status.BROKEN


def test_none_is_broken_and_names_the_extra():
    trial = Trial(failure="Running a bundle needs the package 'onnxruntime'")
    finding = judge(trial=trial)
    assert (finding.status, finding.remedy) == (
        Status.BROKEN,
        "in the folder of m2a: pip install -e '.[cpu]'",
    )


def test_one_that_cannot_be_imported_is_broken_with_the_reason():
    finding = judge(("onnxruntime-gpu", "1.20"), trial=Trial(failure="ended by SIGILL"))
    assert finding.status is Status.BROKEN
    assert "SIGILL" in finding.found
    assert finding.remedy == "pip install --force-reinstall onnxruntime-gpu"


def test_files_of_another_version_are_broken():
    """What uninstalling one of two packages leaves behind."""
    assert judge(("onnxruntime", "1.19.0")).status is Status.BROKEN
    assert judge(("onnxruntime", "1.20.1+local")).status is Status.GOOD


def test_one_without_metadata_is_good():
    """A wheel that the system's packager unpacked."""
    assert judge().status is Status.GOOD


def findings(trials, *, gpu=False):
    tried = []

    def attempt(backend):
        tried.append(backend)
        return trials[backend]

    found = {f.topic: f for f in backend_findings(PROVIDERS, DEFAULT_BACKEND, attempt, gpu=gpu)}
    assert list(found) == list(PROVIDERS)
    return found, tried


def listing(*providers, failure="", lacking=""):
    return Trial(version="1.20.1", listed=(*providers, CPU), failure=failure, lacking=lacking)


def test_a_missing_provider_is_found_and_not_tried():
    found, tried = findings({"ort-cpu": listing()})
    assert tried == ["ort-cpu"]
    assert found["ort-cpu"].status is Status.GOOD
    for backend in ("ort-cuda", "ort-tensorrt"):
        assert found[backend].status is Status.MISSING
        assert f"has no {PROVIDERS[backend]}" in found[backend].found
        assert "pip install -e '.[gpu]'" in found[backend].remedy


def test_a_provider_that_opens_is_good():
    every = listing(CUDA, TENSORRT)
    found, tried = findings(dict.fromkeys(PROVIDERS, every), gpu=True)
    assert tried == list(PROVIDERS)
    assert {finding.status for finding in found.values()} == {Status.GOOD}


def test_a_provider_that_is_listed_and_does_not_open_is_broken_with_the_library():
    silent = listing(CUDA, failure="opened CPU instead", lacking="libcudnn.so.9")
    trials = {"ort-cpu": listing(CUDA), "ort-cuda": silent}
    found, _ = findings(trials, gpu=True)
    assert found["ort-cuda"].status is Status.BROKEN
    assert "libcudnn.so.9" in found["ort-cuda"].found
    assert "LD_LIBRARY_PATH" in found["ort-cuda"].remedy


def test_without_a_gpu_it_is_only_missing():
    trials = {"ort-cpu": listing(CUDA), "ort-cuda": listing(CUDA, failure="no device")}
    found, _ = findings(trials, gpu=False)
    assert found["ort-cuda"].status is Status.MISSING


def test_onnx_runtime_lists_tensorrt_where_it_is_not_installed():
    silent = listing(TENSORRT, failure="opened CPU instead", lacking="libnvinfer.so.10")
    found, _ = findings({"ort-cpu": listing(TENSORRT), "ort-tensorrt": silent}, gpu=True)
    assert found["ort-tensorrt"].status is Status.MISSING
    assert "libnvinfer.so.10" in found["ort-tensorrt"].found


def test_a_crash_while_opening_is_broken():
    trials = {"ort-cpu": listing(CUDA), "ort-cuda": Trial(failure="was ended by SIGSEGV")}
    found, _ = findings(trials, gpu=True)
    assert found["ort-cuda"].status is Status.BROKEN
    assert "SIGSEGV" in found["ort-cuda"].found


def test_where_nothing_is_imported_only_the_default_is_broken():
    found, _ = findings({"ort-cpu": Trial(failure="not installed")})
    assert found["ort-cpu"].status is Status.BROKEN
    assert found["ort-cuda"].status is found["ort-tensorrt"].status is Status.MISSING


def test_a_cpu_that_computes_wrong_is_broken():
    found, _ = findings({"ort-cpu": listing(failure="computes [[0, 0], [0, 0]]")})
    assert found["ort-cpu"].status is Status.BROKEN


class TestTheTrial:
    """Against the installed ONNX Runtime."""

    def test_the_cpu_computes(self):
        trial = try_backend("ort-cpu")
        assert trial.failure == ""
        assert CPU in trial.listed
        assert trial.version

    def test_a_provider_that_is_not_here_fails(self):
        trial = try_backend("ort-tensorrt")
        assert TENSORRT in trial.failure
        assert trial.version

    def test_it_has_a_limit(self):
        assert "no answer in 0.01 s" in try_backend("ort-cpu", seconds=0.01).failure

    def test_a_wrong_product_is_a_failure(self, monkeypatch):
        class Wrong:
            def run(self, feeds):
                return {"c": np.zeros((2, 2), np.float32)}

        monkeypatch.setattr("m2a.runtime.backends.open_runners", lambda *_, **__: [Wrong()])
        assert "computes [[0.0, 0.0], [0.0, 0.0]]" in open_and_run("ort-cpu")["failure"]

    def test_the_graph_is_the_one_that_its_description_says(self):
        import onnx

        model = onnx.load_from_string(GRAPH)
        onnx.checker.check_model(model, full_check=True)
        assert [node.op_type for node in model.graph.node] == ["MatMul"]
        assert (model.ir_version, model.opset_import[0].version) == (10, 20)


def test_the_lacking_library_is_read_from_the_log():
    log = (
        "[E:onnxruntime:Default, provider_bridge_ort.cc:1548 TryGetProviderInfo_CUDA] FAIL : "
        "Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.12: "
        "cannot open shared object file: No such file or directory\n"
    )
    assert lacking_library(log) == "libcublasLt.so.12"
    assert lacking_library("all is well") == ""
