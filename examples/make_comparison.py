"""Makes the README's picture: the example photo blurred, restored, and what was touched.

python examples/make_comparison.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import m2a
from m2a.runtime.images import Photo, read_photo, write_photo

FOLDER = Path(__file__).resolve().parent
ROWS, COLUMNS = slice(0, 330), slice(200, 512)
GAP = 6


def main() -> None:
    """Writes `before-after.png`."""
    photo = read_photo(FOLDER / "shuttle.png").pixels
    result = m2a.load()(photo)
    dimmed = (photo * 0.35).astype(np.uint8)
    touched = np.where(result.mask[:, :, None], photo, dimmed)
    gap = np.full((ROWS.stop - ROWS.start, GAP, 3), 255, np.uint8)
    parts = [picture[ROWS, COLUMNS] for picture in (photo, result.image, touched)]
    sheet = np.concatenate([parts[0], gap, parts[1], gap, parts[2]], axis=1)
    write_photo(FOLDER / "before-after.png", Photo(pixels=sheet), overwrite=True)


if __name__ == "__main__":
    main()
