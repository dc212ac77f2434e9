"""The extras of m2a: which packages each installs, and one error that names all that are missing.

A command asks before it works, so that nobody installs one package after another.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from m2a.errors import MissingDependencyError

__all__ = [
    "EXTRAS",
    "check_extras",
    "is_installed",
    "missing_packages",
    "needing_extra",
]

EXTRAS: Mapping[str, Mapping[str, str]] = {
    "cpu": {"onnxruntime": "onnxruntime"},
    "gpu": {"onnxruntime-gpu": "onnxruntime"},
    "export": {
        "torch": "torch",
        "onnx": "onnx",
        "onnxscript": "onnxscript",
        "onnxsim": "onnxsim",
        "safetensors": "safetensors",
    },
    "bench": {"matplotlib": "matplotlib", "onnx": "onnx"},
    "eval": {"pillow": "PIL", "scikit-image": "skimage"},
    "tensorrt": {
        "filelock": "filelock",
        "onnx": "onnx",
        "pycuda": "pycuda",
        "tensorrt": "tensorrt",
    },
    "tensorrt-rtx": {"filelock": "filelock", "onnx": "onnx", "tensorrt-rtx": "tensorrt_rtx"},
    "train": {
        "torch": "torch",
        "safetensors": "safetensors",
        "opencv-python-headless": "cv2",
        "pillow": "PIL",
        "pytorch_optimizer": "pytorch_optimizer",
        "tensorboard": "tensorboard",
    },
    "video": {"av": "av"},
    "serve": {
        "fastapi": "fastapi",
        "prometheus-client": "prometheus_client",
        "python-multipart": "python_multipart",
        "uvicorn": "uvicorn",
    },
    "ray": {"fsspec": "fsspec", "pyarrow": "pyarrow", "ray": "ray"},
    "triton": {"tritonclient": "tritonclient"},
}
"""Extra → distribution that it installs on every Python → the module that shows it is there."""


def is_installed(module: str) -> bool:
    """Whether there is a top-level module of that name, whatever becomes of importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # already imported, by a loader that left no description of it
        return True


def missing_packages(extra: str, only: Collection[str] | None = None) -> list[str]:
    """The distributions of an extra that are not installed.

    Args:
        extra: a key of `EXTRAS`.
        only: look at these of its distributions alone.
    """
    packages = EXTRAS[extra]
    asked = packages if only is None else [name for name in packages if name in only]
    return [name for name in asked if not is_installed(packages[name])]


def check_extras(*extras: str, purpose: str, only: Collection[str] | None = None) -> None:
    """Refuses to begin where packages are missing, and names all of them at once.

    Args:
        extras: keys of `EXTRAS`, all of which are needed.
        purpose: what needs them, as the beginning of a sentence.
        only: of these distributions alone.

    Raises:
        MissingDependencyError: one or more are not installed.
    """
    missing = {extra: found for extra in extras if (found := missing_packages(extra, only))}
    if missing:
        packages = dict.fromkeys(name for found in missing.values() for name in found)
        raise MissingDependencyError(*packages, extra=",".join(missing), purpose=purpose)


@contextmanager
def needing_extra(
    extra: str, *, purpose: str, only: Collection[str] | None = None
) -> Iterator[None]:
    """Around imports: arguments and errors as `check_extras`.

    A package that an installed one needs and lacks becomes such an error too.
    """
    check_extras(extra, purpose=purpose, only=only)
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("m2a"):
            raise
        raise MissingDependencyError(error.name, extra=extra, purpose=purpose) from error
