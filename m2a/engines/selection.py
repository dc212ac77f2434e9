"""Where a bundle's engines lie, and which of them to run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m2a.cache import cache_folder
from m2a.engines.machine import Machine
from m2a.engines.sidecar import (
    ENGINES,
    REBUILD,
    SIDECAR,
    Sidecar,
    read_engine,
    read_sidecar,
    reasons_against,
)
from m2a.errors import EngineError
from m2a.runtime.bundle import GRAPHS, Bundle


class MissingEnginesError(EngineError):
    """There are no engines of a precision, as far as can be read.

    Attributes:
        unreadable: why of others nothing is known, not even their precision.
    """

    def __init__(self, message: str, *, unreadable: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.unreadable = tuple(unreadable)


@dataclass(frozen=True, kw_only=True)
class ChosenEngines:
    """Engines that nothing is known against, and whose files are those that were built.

    Attributes:
        folder: where they lie.
        sidecar: what they are.
        contents: graph → the serialised engine.
    """

    folder: Path
    sidecar: Sidecar
    contents: dict[str, bytes]


def engines_folder(bundle: Bundle) -> Path:
    """Where a bundle's engines lie: in it, or in the user's cache for the one in the package."""
    if bundle.packaged:
        try:
            return cache_folder() / ENGINES
        except RuntimeError as error:
            raise EngineError(
                "engines of the packaged model go to the user's cache, and this user has no home; "
                "set XDG_CACHE_HOME to a folder"
            ) from error
    return bundle.path / ENGINES


def find_sidecars(folder: Path) -> list[Path]:
    """The `engine.json` of each folder of engines, by name.

    Names that begin with a dot are engines that are being written, or were set aside.
    """
    return sorted(
        file for file in folder.glob(f"*/{SIDECAR}") if not file.parent.name.startswith(".")
    )


def choose_engines(bundle: Bundle, *, precision: str, machine: Machine) -> ChosenEngines:
    """Chooses engines of a bundle to run on a machine, without deserialising any.

    Of several that would run, those that were built last.

    Args:
        bundle: what they compute.
        precision: as built: `fp32`, `fp16` or `int8`.
        machine: where they are to run.

    Returns:
        The engines.

    Raises:
        MissingEnginesError: there are none; the command that builds them is told.
        EngineError: something is against each of them; every reason is told, and the command that
            builds them again. Or a file is not the one that was built. Both tell of descriptions
            that cannot be read.
    """
    folder = engines_folder(bundle)
    found: list[tuple[float, Path, Sidecar]] = []
    unreadable: list[str] = []
    others: set[str] = set()
    for file in find_sidecars(folder):
        try:
            sidecar = read_sidecar(file)
            built = file.stat().st_mtime
        except (EngineError, OSError) as error:
            unreadable.append(str(error))
            continue
        if sidecar.precision == precision:
            found.append((built, file.parent, sidecar))
        else:
            others.add(sidecar.precision)
    found.sort(key=lambda entry: entry[:2], reverse=True)
    refused = []
    for _, place, sidecar in found:
        reasons = reasons_against(sidecar, machine, bundle)
        if not reasons:
            contents = {name: read_engine(place, sidecar, name) for name in GRAPHS}
            return ChosenEngines(folder=place, sidecar=sidecar, contents=contents)
        refused.append(f"{place.name}: {'; '.join(reasons)}")
    if refused:
        raise EngineError(
            f"the {precision} engines in {folder} will not run here. {'. '.join(refused)}. "
            f"Build them again: {found[0][2].rebuild_command}{_also(unreadable)}"
        )
    absent = _absent(bundle, precision, folder, others)
    raise MissingEnginesError(f"{absent}{_also(unreadable)}", unreadable=unreadable)


def _also(unreadable: Sequence[str]) -> str:
    return "".join(f" ({fault})" for fault in unreadable)


def _absent(bundle: Bundle, precision: str, folder: Path, others: set[str]) -> str:
    """That there are no engines of a precision, and the command that builds them."""
    there = f"; there are {' and '.join(sorted(others))} ones" if others else ""
    words = [*REBUILD, f"--{precision}", "--bundle", str(bundle.path.resolve())]
    if precision == "int8" and precision not in bundle.graphs:
        words += ["--calibration", "PHOTOS"]  # a folder of blurred ones: no graphs without them
    return (
        f"found no {precision} engines in {folder}{there}. Build them on the machine that runs "
        f"them: {shlex.join(words)}"
    )
