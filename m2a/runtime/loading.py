"""Opening a bundle on a backend: from a directory to a `Deblurrer`."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from m2a.errors import BackendError, EngineError, MissingDependencyError
from m2a.extras import check_extras
from m2a.machine.memory import read_memory
from m2a.runtime.backends import (
    DEFAULT_BACKEND,
    PIPELINES,
    Runner,
    check_backend,
    open_runners,
)
from m2a.runtime.bundle import GRAPHS, Bundle, find_bundle
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.ensemble import check_ensemble
from m2a.runtime.parts import smallest_memory
from m2a.runtime.precision import AUTO, ChosenPrecision, candidates, choose_precision

SHARE_OF_MEMORY = 0.25
"""Of the memory that the machine has free: what the graphs may take unless told otherwise."""

UNKNOWN_MEMORY = 2**31
"""Bytes to count on where the system does not tell its memory."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How a bundle is opened; the meaning of each field is that of `load`'s argument."""

    backend: str = DEFAULT_BACKEND
    precision: str = AUTO
    threshold: float | None = None
    dilate: int | None = None
    ensemble: int = 1
    allow_fallback: bool = False
    max_memory: int | None = None
    threads: int | None = None

    def open(self, bundle: Bundle) -> Deblurrer:
        """Opens a bundle that was found already.

        Raises:
            M2AError: as `load`.
        """
        return open_bundle_on(bundle, **vars(self))


def load(
    bundle: str | Path | None = None,
    *,
    backend: str = DEFAULT_BACKEND,
    precision: str = AUTO,
    threshold: float | None = None,
    dilate: int | None = None,
    ensemble: int = 1,
    allow_fallback: bool = False,
    max_memory: int | None = None,
    threads: int | None = None,
) -> Deblurrer:
    """Opens a bundle for deblurring.

    Args:
        bundle: a bundle's directory; None takes `$M2A_BUNDLE` or the one packaged with m2a,
            never the working directory.
        backend: `ort-cpu`, `ort-cuda` or `ort-tensorrt`: ONNX Runtime's execution providers; or
            `tensorrt`, which keeps the whole pipeline on a GPU and runs the bundle's engines.
        precision: which of the bundle's graphs: `fp32`, and what else it holds; `auto` takes the
            best verified one for the backend (`m2a.runtime.precision`), which on a CPU is `fp32`.
        threshold: a pixel is active where its probability is at least this; None takes the
            bundle's.
        dilate: radius in pixels by which the mask is then dilated; None takes the bundle's.
        ensemble: 2, 4 or 8 computes a picture in as many orientations (2: mirrored too; 4: upside
            down as well; 8: and transposed) and takes the mean: as a rule better restorations, and
            better masks, for as many times the computation. A model whose mask graph sees the
            mirror image anyway, as that of `base`, needs half as many passes for the mask. The
            motion is that of the picture as it is.
        allow_fallback: use `ort-cpu` where the backend cannot be used, instead of an error; `auto`
            is then what is best there.
        max_memory: bytes that one graph may take at a time, about, beside the picture and the
            result: larger pictures are computed in parts, with the same result. On the CPU all
            graphs of a process share what they took, and keep it; calls at the same time take it
            each. None takes a quarter of the memory that is free now. `tensorrt` takes what a
            picture needs, and refuses what its engines do not hold.
        threads: threads that compute on the CPU; None takes the cores that this process may use.

    Returns:
        The `Deblurrer`; its `backend` says who really computes.

    Raises:
        BundleError: the bundle is missing or damaged.
        UsageError: an argument is out of range, the memory does not suffice, or the bundle lacks
            the precision.
        BackendError: the backend cannot be used on this machine.
        EngineError: `tensorrt` found no engines that it may run; the message says what builds them.
        MissingDependencyError: a package that the backend needs is not installed.
    """
    found = find_bundle(Path(bundle) if bundle is not None else None, working_directory=False)
    return open_bundle_on(
        found,
        backend=backend,
        precision=precision,
        threshold=threshold,
        dilate=dilate,
        ensemble=ensemble,
        allow_fallback=allow_fallback,
        max_memory=max_memory,
        threads=threads,
    )


def open_bundle_on(
    bundle: Bundle,
    *,
    backend: str = DEFAULT_BACKEND,
    precision: str = "fp32",
    threshold: float | None = None,
    dilate: int | None = None,
    ensemble: int = 1,
    allow_fallback: bool = False,
    max_memory: int | None = None,
    threads: int | None = None,
    optimize: bool = True,
) -> Deblurrer:
    """Opens a bundle that was found already: see `load`.

    `optimize=False` computes the graphs as they are written, on one thread: the slow reference.
    """
    open_with = functools.partial(
        _open_on,
        bundle,
        precision=precision,
        threshold=bundle.threshold if threshold is None else threshold,
        dilate=bundle.dilate if dilate is None else dilate,
        ensemble=ensemble,
        max_memory=allowed_memory(bundle, max_memory),
        threads=threads,
        optimize=optimize,
    )
    check_backend(backend)
    check_ensemble(ensemble)
    may_fall_back = allow_fallback and backend != DEFAULT_BACKEND
    unusable: tuple[type[Exception], ...] = (BackendError,)
    if backend in PIPELINES:
        unusable = (BackendError, EngineError, MissingDependencyError)
    try:
        return open_with(backend)
    except unusable as error:
        if not may_fall_back:
            raise
        fallback_reason = str(error)
    deblurrer = open_with(DEFAULT_BACKEND)
    deblurrer.fallback_reason = fallback_reason
    return deblurrer


def _open_on(
    bundle: Bundle,
    backend: str,
    *,
    precision: str,
    threshold: float,
    dilate: int,
    ensemble: int,
    max_memory: int,
    threads: int | None,
    optimize: bool,
) -> Deblurrer:
    """Opens a bundle on one backend, in the precision that is chosen for that one."""
    chosen = precision_on(bundle, backend, precision)
    if backend in PIPELINES:
        deblurrer: Deblurrer = _pipeline(backend).open_on_gpu(
            bundle,
            precision=chosen.precision,
            threshold=threshold,
            dilate=dilate,
            ensemble=ensemble,
            max_memory=max_memory,
        )
        deblurrer.precision_reason = chosen.reason
        return deblurrer
    mask, restore = open_runners(
        [bundle.graph(name, precision=chosen.precision) for name in GRAPHS],
        backend=backend,
        optimize=optimize,
        threads=threads,
    )

    # Read now, while the bundle is what it was, and opened when it is needed.
    has_dense = bundle.dense is not None and chosen.precision == "fp32" and optimize
    densely = bundle.dense_graph() if has_dense else None

    def open_dense(graph: bytes) -> Runner:
        return open_runners([graph], backend=backend, threads=threads)[0]

    deblurrer = Deblurrer(
        bundle,
        mask=mask,
        restore=restore,
        dense=None if densely is None else functools.partial(open_dense, densely),
        precision=chosen.precision,
        threshold=threshold,
        dilate=dilate,
        ensemble=ensemble,
        max_memory=max_memory,
        threads=threads if optimize else 1,
    )
    deblurrer.precision_reason = chosen.reason
    return deblurrer


def precision_on(bundle: Bundle, backend: str, precision: str) -> ChosenPrecision:
    """The precision that opening a bundle on a backend computes in.

    Args:
        bundle: the bundle.
        backend: one of `m2a.runtime.backends.NAMES`.
        precision: what was asked for; `auto` for the best verified one.

    Raises:
        UsageError: there is no backend of that name.
    """
    check_backend(backend)
    if precision != AUTO:
        return ChosenPrecision(precision=precision, reason="asked for")
    if backend not in PIPELINES:
        return choose_precision(bundle, backend)
    verified = candidates(bundle, backend)
    try:
        chosen: ChosenPrecision = _pipeline(backend).choose_precision(bundle, verified)
    except MissingDependencyError:  # told where the backend is opened
        return ChosenPrecision(precision="fp32", reason="the backend cannot be opened")
    return chosen


def _pipeline(backend: str) -> ModuleType:
    """Imports what opens a backend of `PIPELINES`; the extra that installs it has its name.

    Raises:
        MissingDependencyError: a package is not installed; it names all that are missing.
    """
    try:
        return importlib.import_module(PIPELINES[backend])
    except ModuleNotFoundError:
        check_extras(backend, purpose=f"The backend {backend!r}")
        raise


def allowed_memory(bundle: Bundle, asked: int | None, *, calls: int = 1) -> int:
    """Bytes that the graphs of one call may take.

    Args:
        bundle: whose network sets the least that is taken by default.
        asked: what the caller allows; None: a share of what is free.
        calls: how many run at a time and share that.
    """
    if asked is not None:
        return asked
    memory = read_memory()
    free = UNKNOWN_MEMORY if memory is None else memory.free
    return max(int(free * SHARE_OF_MEMORY / calls), smallest_memory(bundle.network))
