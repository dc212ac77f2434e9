"""Which outputs are done, and what made them: `.m2a` in the folder that is written into.

A run has a folder of its own there, numbered in the order in which they began:

| file | |
|---|---|
| `run.json` | the recipe: model and options |
| `claims.parquet` | the outputs that the run is about to write |
| `rows-….parquet` | a row per photo that it finished, in as many files as it took |

Nothing is changed once it is written. An output is done if the last run that claimed it has a row
for it that says so. Claims come before the first output, rows after theirs: a file that is claimed
and has no row was left by a run that was killed, and may be written again; a file that nobody
claimed, or whose row says that it failed, is somebody else's.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m2a._version import __version__
from m2a.cluster.places import Place
from m2a.cluster.recipe import Recipe
from m2a.errors import ClusterError
from m2a.runtime.outcomes import DONE, FAILED

__all__ = ["FOLDER", "OUTCOME", "ROW", "Made", "Manifest", "Run", "parquet_bytes", "read_parquet"]

FOLDER = ".m2a"

OUTCOME = (
    ("status", pa.string()),
    ("reason", pa.string()),
    ("coverage", pa.float64()),
    ("seconds", pa.float64()),
    ("width", pa.int32()),
    ("height", pa.int32()),
)
"""What became of a photo."""

ROW = pa.schema(
    [
        ("path", pa.string()),
        *OUTCOME,
        ("model", pa.string()),
        ("backend", pa.string()),
        ("output", pa.string()),
        ("name", pa.string()),
        ("run", pa.string()),
    ]
)
"""A photo's row. `name` is the output's, relative to the folder; `model` the recipe's."""

_MOST_BYTES = 2**33


@dataclass(frozen=True)
class Made:
    """What is known of an output.

    Attributes:
        run: the last run that claimed it.
        recipe: that run's, as `Recipe.sha256`.
        done: whether that run finished it.
    """

    run: str
    recipe: str
    done: bool


@dataclass(frozen=True)
class Manifest:
    """What earlier runs did in a place.

    Attributes:
        runs: their names, in order.
        outputs: name → what is known of it; nothing where the last run that claimed it failed.
    """

    runs: Sequence[str]
    outputs: Mapping[str, Made]

    @classmethod
    def read(cls, place: Place) -> Manifest:
        """Reads it.

        Raises:
            ClusterError: a file is damaged.
        """
        by_run: dict[str, list[str]] = {}
        for file in place.files(FOLDER):
            parts = file.split("/")
            if len(parts) == 3 and not parts[2].startswith("."):
                by_run.setdefault(parts[1], []).append(file)
        outputs: dict[str, Made | None] = {}
        for run in sorted(by_run):
            outputs.update(_outputs_of(place, run, by_run[run]))
        known = {name: made for name, made in outputs.items() if made is not None}
        return cls(runs=sorted(by_run), outputs=known)


def _outputs_of(place: Place, run: str, files: Sequence[str]) -> dict[str, Made | None]:
    """What a run says of the outputs that it claimed; None of those that failed."""
    claims = f"{FOLDER}/{run}/claims.parquet"
    if claims not in files:  # killed before it wrote anything
        return {}
    file = f"{FOLDER}/{run}/run.json"
    try:
        recipe = json.loads(place.read(file, limit=2**20))["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(place, file, error) from error
    claimed, done = Made(run, recipe, done=False), Made(run, recipe, done=True)
    found: dict[str, Made | None] = dict.fromkeys(
        read_parquet(place, claims)["name"].to_pylist(), claimed
    )
    known = {DONE: done, FAILED: None}
    for rows in (file for file in files if "/rows-" in file):
        table = read_parquet(place, rows)
        statuses = zip(table["name"].to_pylist(), table["status"].to_pylist(), strict=True)
        found.update({name: known[status] for name, status in statuses if status in known})
    return found


@dataclass
class Run:
    """A run that is at work; made by `begin`."""

    place: Place
    name: str
    _written: int = field(default=0, init=False)

    @classmethod
    def begin(
        cls, place: Place, manifest: Manifest, recipe: Recipe, *, claims: Sequence[str]
    ) -> Run:
        """Writes the recipe and the claims.

        Args:
            place: where the outputs go.
            manifest: what is there already.
            recipe: what makes the outputs.
            claims: the outputs' names, relative to the place.
        """
        last = max((int(run[:6]) for run in manifest.runs if run[:6].isdigit()), default=0)
        run = cls(place, f"{last + 1:06d}-{secrets.token_hex(3)}")
        content = {"sha256": recipe.sha256, "recipe": asdict(recipe), "m2a": __version__}
        place.write(f"{FOLDER}/{run.name}/run.json", json.dumps(content, indent=2).encode())
        names = pa.table({"name": pa.array(claims, pa.string())})
        place.write(f"{FOLDER}/{run.name}/claims.parquet", parquet_bytes([names]))
        return run

    def commit(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes the rows of photos that are finished, in one file."""
        if not rows:
            return
        self._written += 1
        table = pa.Table.from_pylist(list(rows), schema=ROW)
        file = f"{FOLDER}/{self.name}/rows-{self._written:06d}.parquet"
        self.place.write(file, parquet_bytes([table]))

    def committed(self) -> list[str]:
        """The files of all rows so far, relative to the place."""
        return [
            f"{FOLDER}/{self.name}/rows-{number + 1:06d}.parquet" for number in range(self._written)
        ]


def parquet_bytes(tables: Sequence[pa.Table]) -> bytes:
    """Tables of one schema as one Parquet file."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, tables[0].schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_parquet(place: Place, file: str) -> pa.Table:
    """A file of the manifest.

    Raises:
        ClusterError: it is damaged.
    """
    try:
        content = pa.BufferReader(place.read(file, limit=_MOST_BYTES))
        # In this thread: a command that ends while Arrow's own threads run can end with an abort.
        return pq.ParquetFile(content, pre_buffer=False).read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(place, file, error) from error


def _damaged(place: Place, file: str, error: Exception) -> ClusterError:
    folder = place.shown(file.rsplit("/", 1)[0])
    return ClusterError(
        f"{place.shown(file)}: cannot be read as part of the manifest ({error}); delete the folder "
        f"{folder} to forget what that run did"
    )
