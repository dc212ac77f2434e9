"""Writes one file or folder over and over, to be killed or starved."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from m2a.errors import M2AError
from m2a.files import write_folder
from m2a.runtime.bundle_files import write_bundle
from m2a.runtime.images import Photo, write_photo

SIZE = 200


def content(turn: int) -> dict[str, bytes]:
    """The files of a folder; whether all are of one turn can be told from their bytes."""
    return {name: bytes([turn % 251]) * 200_000 for name in ("a/one", "b/two", "three.json")}


def write(kind: str, place: Path, turn: int) -> None:
    """Writes the whole of one turn."""
    if kind == "picture":
        pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        pixels[0, 0] = turn % 251
        write_photo(place, Photo(pixels=pixels), overwrite=True)
    elif kind == "bundle":
        write_bundle(place, content(turn))
    else:
        write_folder(place, content(turn))


def main() -> None:
    """`python faults.py KIND PLACE TURNS [USER]`: from the second turn on as another user."""
    kind, place, turns = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    for turn in range(turns):
        try:
            write(kind, place, turn)
        except (M2AError, OSError) as error:
            sys.exit(f"refused: {error}")
        if turn == 0:
            print("begun", flush=True)  # noqa: T201 - to whoever waits
            if len(sys.argv) > 4:
                os.seteuid(int(sys.argv[4]))


if __name__ == "__main__":
    main()
