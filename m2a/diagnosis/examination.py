"""The whole examination, in the order in which it is shown."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from m2a.cache import cache_folder
from m2a.diagnosis.bundles import bundle_finding
from m2a.diagnosis.finding import Check, Finding, Status, isolated, missing
from m2a.diagnosis.jetson import jetson_findings
from m2a.diagnosis.machine import (
    memory_finding,
    processor_finding,
    python_finding,
    system_finding,
)
from m2a.diagnosis.nvidia import (
    driver_finding,
    gpu_finding,
    pycuda_finding,
    tensorrt_finding,
)
from m2a.diagnosis.onnx_runtime import (
    backend_findings,
    installation_finding,
    installed_distributions,
)
from m2a.diagnosis.packages import (
    OPTIONAL,
    extra_finding,
    import_separately,
    numpy_finding,
)
from m2a.diagnosis.pictures import libvips_finding
from m2a.diagnosis.provider_trial import SECONDS, try_backend
from m2a.diagnosis.storage import folder_finding
from m2a.extras import is_installed
from m2a.machine.cuda_driver import ask_driver
from m2a.machine.installed import TENSORRT, Flavour, version_of

__all__ = ["examine"]

_BRIEF = 20
"""Seconds for a check that only reads files; a disk may have to start."""

_LONG = 4 * SECONDS
"""Seconds for a check that asks other processes, each of which has a shorter limit of its own."""


def examine(bundle: Path | None = None) -> Iterator[Finding]:
    """Examines this machine and installation.

    Nothing is changed: what is written to try a folder is removed, nothing is installed and
    nothing is loaded from the network.

    Args:
        bundle: the bundle to check; None searches for it as `m2a run` does.

    Yields:
        The findings, each as soon as it is known. No error of a check comes out of this, and
        none keeps it waiting for ever.
    """
    driver = functools.cache(ask_driver)

    def sees_gpu() -> bool:
        return bool(driver().gpus)

    yield from _machine()
    numpy = isolated("NumPy", lambda: [numpy_finding()], seconds=_LONG)
    yield from numpy
    yield from isolated("CUDA driver", lambda: [driver_finding(driver())], seconds=_LONG)
    yield from isolated("NVIDIA GPU", lambda: [gpu_finding(driver())], seconds=_LONG)
    yield from isolated("Jetson", jetson_findings, seconds=_BRIEF)
    computing = any(finding.status is Status.GOOD for finding in numpy)
    for topic, check in _what_needs_numpy(bundle, sees_gpu).items():
        if computing:
            yield from isolated(topic, check, seconds=_LONG)
        else:
            yield missing(topic, "unknown as long as NumPy cannot be imported")
    yield from _optional_packages()


def _machine() -> Iterator[Finding]:
    checks: list[tuple[str, Check]] = [
        ("Python", lambda: [python_finding()]),
        ("operating system", lambda: [system_finding()]),
        ("CPU", lambda: [processor_finding()]),
        ("memory", lambda: [memory_finding()]),
        (
            "working folder",
            lambda: [
                folder_finding("working folder", Path.cwd(), elsewhere="work in another folder")
            ],
        ),
        (
            "cache folder",
            lambda: [
                folder_finding(
                    "cache folder",
                    cache_folder(),
                    elsewhere="set XDG_CACHE_HOME to a folder that you may write to",
                )
            ],
        ),
    ]
    for topic, check in checks:
        yield from isolated(topic, check, seconds=_BRIEF)


def _what_needs_numpy(bundle: Path | None, sees_gpu: Callable[[], bool]) -> dict[str, Check]:
    attempt = functools.cache(try_backend)

    def runtime() -> Iterator[Finding]:
        from m2a.runtime.backends import DEFAULT_BACKEND

        yield installation_finding(
            installed_distributions(), attempt(DEFAULT_BACKEND), gpu=sees_gpu()
        )

    def backends() -> Iterator[Finding]:
        from m2a.runtime.backends import BACKENDS, DEFAULT_BACKEND

        providers = {name: backend.provider for name, backend in BACKENDS.items()}
        yield from backend_findings(providers, DEFAULT_BACKEND, attempt, gpu=sees_gpu())

    return {
        "libvips": lambda: [libvips_finding()],
        "ONNX Runtime": runtime,
        "backends": backends,
        "bundle": lambda: [bundle_finding(bundle)],
    }


def _optional_packages() -> Iterator[Finding]:
    for flavour in TENSORRT.values():
        check = functools.partial(_tensorrt, flavour)
        yield from isolated(flavour.title, check, seconds=_LONG)
    yield from isolated(
        "pycuda",
        lambda: [pycuda_finding(find=version_of, attempt=import_separately)],
        seconds=_LONG,
    )
    for extra in OPTIONAL:
        check = functools.partial(_extra, extra)
        yield from isolated(f"extra {extra}", check, seconds=_BRIEF)


def _tensorrt(flavour: Flavour) -> Iterator[Finding]:
    attempt = import_separately if is_installed(flavour.module) else None
    yield tensorrt_finding(flavour.title, flavour.module, oldest=flavour.oldest, attempt=attempt)


def _extra(extra: str) -> Iterator[Finding]:
    yield extra_finding(extra)
