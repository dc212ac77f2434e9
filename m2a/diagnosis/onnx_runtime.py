"""ONNX Runtime: which packages are installed, and which of its providers really compute."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from m2a.diagnosis.finding import Finding, broken, good, missing
from m2a.diagnosis.provider_trial import Trial, Try
from m2a.errors import install_advice
from m2a.machine.installed import VersionOf, version_of

DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
    "onnxruntime-silicon",
    "onnxruntime-training",
    "ort-nightly",
    "ort-nightly-gpu",
)
"""All that install the module `onnxruntime`, each over the files of the others."""

TOPIC = "ONNX Runtime"

REQUIREMENTS = (
    "https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#requirements"
)


def installed_distributions(*, find: VersionOf = version_of) -> dict[str, str]:
    """Returns the installed ones of `DISTRIBUTIONS` with their versions."""
    return {name: version for name in DISTRIBUTIONS if (version := find(name))}


def installation_finding(installed: Mapping[str, str], trial: Trial, *, gpu: bool) -> Finding:
    """Judges what is installed.

    Args:
        installed: distribution → version.
        trial: of the default backend; it says which version was really imported.
        gpu: whether this machine has an NVIDIA GPU, for the remedy.
    """
    described = ", ".join(f"{name} {version}" for name, version in installed.items())
    wanted = "gpu" if gpu else "cpu"
    if len(installed) > 1:
        return broken(
            TOPIC,
            f"{len(installed)} packages that overwrite each other's files: {described}",
            install_advice(wanted, before=f"pip uninstall -y {' '.join(installed)}"),
        )
    if not installed and trial.version is None:
        return broken(TOPIC, trial.failure or "not installed", install_advice(wanted))
    again = f"pip install --force-reinstall {' '.join(installed) or 'onnxruntime'}"
    if trial.version is None:
        return broken(TOPIC, f"{described} cannot be imported: {trial.failure}", again)
    if not installed:
        return good(TOPIC, f"{trial.version}, installed without metadata; {_listing(trial)}")
    (version,) = installed.values()
    if _release(version) != _release(trial.version):
        return broken(TOPIC, f"{described} is installed, {trial.version} is imported", again)
    return good(TOPIC, f"{described}; {_listing(trial)}")


def backend_findings(
    providers: Mapping[str, str], default: str, attempt: Try, *, gpu: bool
) -> Iterable[Finding]:
    """Tries every backend.

    Args:
        providers: backend → ONNX Runtime's name of its provider.
        default: the backend that m2a cannot do without.
        attempt: tries one; beside the default only those whose provider is listed are tried.
        gpu: whether this machine has an NVIDIA GPU.

    Yields:
        One finding a backend.
    """
    first = attempt(default)
    yield default_finding(default, providers[default], first)
    for backend, provider in providers.items():
        if backend == default:
            continue
        if first.version is None:
            yield missing(backend, "unknown as long as ONNX Runtime cannot be imported")
        elif provider not in first.listed:
            yield missing(
                backend,
                f"this ONNX Runtime has no {provider}; {_listing(first)}",
                "with an NVIDIA GPU, "
                + install_advice("gpu", before="pip uninstall -y onnxruntime"),
            )
        else:
            yield optional_finding(backend, provider, attempt(backend), gpu=gpu)


def default_finding(backend: str, provider: str, trial: Trial) -> Finding:
    """Judges the backend without which nothing runs."""
    if not trial.failure:
        return _computed(backend, provider)
    if trial.version is None:
        return broken(backend, trial.failure, f"mend {TOPIC}, as its line says")
    return broken(backend, _why(trial), "pip install --force-reinstall onnxruntime")


def optional_finding(backend: str, provider: str, trial: Trial, *, gpu: bool) -> Finding:
    """Judges a backend that runs on an NVIDIA GPU and whose provider is listed."""
    if not trial.failure:
        return _computed(backend, provider)
    if not gpu:
        return missing(backend, f"no NVIDIA GPU is seen that {provider} could run on")
    if trial.lacking.startswith(("libnvinfer", "libnvonnxparser")):
        return missing(
            backend,
            f"TensorRT is not installed: {provider} does not find {trial.lacking}",
            "install the TensorRT that this ONNX Runtime was built for, its folder in "
            "LD_LIBRARY_PATH, or use --backend ort-cuda",
        )
    return broken(
        backend,
        _why(trial),
        f"install the CUDA and cuDNN of {REQUIREMENTS}, their folders in LD_LIBRARY_PATH",
    )


def _computed(backend: str, provider: str) -> Finding:
    return good(backend, f"{provider} opened a session and computed")


def _why(trial: Trial) -> str:
    if trial.lacking:
        return f"the shared library {trial.lacking} is not found ({trial.failure})"
    return trial.failure


def _listing(trial: Trial) -> str:
    return f"it lists {', '.join(trial.listed)}"


def _release(version: str) -> str:
    """The numbers alone: `1.20.1+cu118` and `1.20.1` are one release."""
    found = re.match(r"\d+(\.\d+)*", version)
    return found.group() if found else version
