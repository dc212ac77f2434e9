"""What runs on the machines of the cluster: reading photos, and the actor that deblurs them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from m2a._version import __version__
from m2a.cluster.manifest import OUTCOME
from m2a.cluster.places import Place
from m2a.engines.selection import engines_folder, find_sidecars
from m2a.engines.sidecar import ENGINES
from m2a.errors import EngineError, M2AError
from m2a.machine.cores import usable_cores
from m2a.runtime.batch import given_mask
from m2a.runtime.bundle import GRAPHS, MANIFEST, Bundle, open_bundle
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.decoding import decode_photo, largest_file
from m2a.runtime.encoding import check_encodable
from m2a.runtime.loading import Opening, allowed_memory
from m2a.runtime.outcomes import DONE, FAILED, reason_of
from m2a.runtime.output import encoded_output
from m2a.runtime.settings import Settings

__all__ = ["FINISHED", "READ", "Order", "Worker", "packed_bundle", "read_photos"]

READ = pa.schema([("index", pa.int64()), ("data", pa.large_binary()), ("error", pa.string())])
"""A photo on its way: its number among the tasks, its file's content, or why there is none."""

FINISHED = pa.schema(
    [
        ("index", pa.int64()),
        *OUTCOME,
        ("backend", pa.string()),
        ("unusable", pa.string()),
    ]
)
"""What became of a photo; `unusable` says why the actor can deblur none at all."""

_READERS = 8
"""Photos that one task reads at a time: an object store answers many as fast as one."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """All that the workers are told.

    Attributes:
        source: where photos are read.
        destination: where results are written.
        settings: how files are decoded and encoded.
        opening: how each actor opens the bundle; `max_memory` None takes its share of what its
            machine has free.
        bundle: its files, by their paths in it: machines share no disk.
        version: m2a's, which must be the same everywhere.
    """

    source: Place
    destination: Place
    settings: Settings
    opening: Opening
    bundle: Mapping[str, bytes]
    version: str = __version__


def packed_bundle(bundle: Bundle, *, precision: str, engines: bool) -> dict[str, bytes]:
    """The files that opening a bundle takes: manifest, graphs, and its engines if they are wanted.

    They are checked here, before a cluster is asked for. Engines of the packaged bundle, which lie
    in the user's cache, are packed as if they lay in it.

    Raises:
        BundleError, UsageError: as `Bundle.graph`.
    """
    files = {MANIFEST: (bundle.path / MANIFEST).read_bytes()}
    for name in GRAPHS:
        content = bundle.graph(name, precision=precision)
        files[bundle.graphs[precision][name].path] = content
    if bundle.dense is not None:
        files[bundle.dense.path] = bundle.dense_graph()
    return files | (_engines(bundle) if engines else {})


def _engines(bundle: Bundle) -> dict[str, bytes]:
    """The files of a bundle's engines, by their paths in a bundle that holds them itself."""
    try:
        folder = engines_folder(bundle)
    except EngineError:  # a user without a home has built none for the packaged bundle
        return {}
    return {
        f"{ENGINES}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for sidecar in find_sidecars(folder)
        for path in sorted(sidecar.parent.iterdir())
        if path.is_file()
    }


def read_photos(batch: pa.Table, order: Order) -> pa.Table:
    """Reads the files of some tasks (`index`, `source`), as `READ` with their names."""
    limit = largest_file(order.settings.max_pixels)

    def read(name: str) -> tuple[bytes | None, str | None]:
        try:
            return order.source.read(name, limit=limit), None
        except (M2AError, OSError, MemoryError) as error:
            return None, reason_of(order.source.shown(name), error)
        except Exception as error:
            return None, _unexpected(order.source.shown(name), error)

    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(read, batch["source"].to_pylist()))
    data = pa.array([content for content, _ in found], pa.large_binary())
    errors = pa.array([error for _, error in found], pa.string())
    return batch.append_column("data", data).append_column("error", errors)


class Worker:
    """An actor: one `Deblurrer`, through which photo after photo goes."""

    def __init__(self, order: Order) -> None:
        self._order = order
        # libvips reads it when it is loaded; every actor's own pool would take all cores.
        os.environ.setdefault("VIPS_CONCURRENCY", str(order.opening.threads or 1))
        self._deblurrer: Deblurrer | None = None
        self._unusable: str | None = None
        if order.version != __version__:
            self._unusable = (
                f"found m2a {__version__} on a machine of the cluster, expected {order.version} "
                "as here; install the same version on all of them"
            )
            return
        try:
            self._deblurrer = _opened(order)
        except (M2AError, OSError, MemoryError) as error:
            # Raised here it would be tried again and again, and end as a stack trace of Ray's.
            self._unusable = str(error)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Deblurs and writes the photos of a batch; yields a `FINISHED` row for each."""
        for photo in batch.to_pylist():
            row = self._row(photo) | {"index": photo["index"]}
            yield pa.Table.from_pylist([row], schema=FINISHED)

    def _row(self, photo: Mapping[str, Any]) -> dict[str, Any]:
        if self._deblurrer is None:
            return {"unusable": self._unusable}
        if photo["error"] is not None:
            return {"status": FAILED, "reason": photo["error"]}
        began = time.perf_counter()
        row: dict[str, Any] = {}
        try:
            self._deblur(photo, self._deblurrer, row)
        except (M2AError, OSError, MemoryError) as error:
            name = self._order.source.shown(photo["source"])
            row |= {"status": FAILED, "reason": reason_of(name, error)}
        except Exception as error:
            name = self._order.source.shown(photo["source"])
            row |= {"status": FAILED, "reason": _unexpected(name, error)}
        return row | {"seconds": time.perf_counter() - began}

    def _deblur(self, photo: Mapping[str, Any], deblurrer: Deblurrer, row: dict[str, Any]) -> None:
        order, settings = self._order, self._order.settings
        name = order.source.shown(photo["source"])
        output = order.destination.shown(photo["output"])
        suffix = PurePosixPath(photo["output"]).suffix
        decoded = decode_photo(photo["data"], origin=name, max_pixels=settings.max_pixels)
        row["height"], row["width"] = decoded.pixels.shape[:2]
        check_encodable(suffix=suffix, photo=decoded, origin=output)
        result = deblurrer(decoded.pixels, mask=given_mask(settings.mask, decoded))
        data = encoded_output(
            settings,
            decoded,
            pixels=result.image,
            mask=result.mask,
            suffix=suffix,
            origin=output,
        )
        order.destination.write(photo["output"], data)
        row |= {"status": DONE, "coverage": result.coverage, "backend": result.backend}


def _unexpected(name: str, error: Exception) -> str:
    """Why a photo failed: a mistake of ours, or a library's, that one of millions brings to light.

    Raised, it would take along the other photos of its block.
    """
    return f"{name}: unexpected {type(error).__name__}: {error}"


def _opened(order: Order) -> Deblurrer:
    opening = order.opening
    with tempfile.TemporaryDirectory() as folder:
        for name, content in order.bundle.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        bundle = open_bundle(Path(folder))
        actors = _actors_on_this_machine(opening)
        memory = allowed_memory(bundle, opening.max_memory, calls=actors)
        return replace(opening, max_memory=memory).open(bundle)


def _actors_on_this_machine(opening: Opening) -> int:
    """How many there are where they take all cores."""
    return max(usable_cores() // (opening.threads or 1), 1)
