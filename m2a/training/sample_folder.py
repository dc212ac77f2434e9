"""A folder of samples to measure on: what is in it, and what is still missing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2a.errors import UsageError
from m2a.files import atomic_file, atomic_write
from m2a.runtime.images import Photo, read_mask, read_photo, write_mask, write_photo
from m2a.training.photographs import contact_sheet
from m2a.training.samples import Pictures, Sample, cell_motion

SUFFIXES = {
    "blurred": ".png",
    "sharp": ".png",
    "mask": ".png",
    "visible": ".png",
    "motion": ".npy",
}
"""Folder → suffix of its files, one for each sample."""

IDENTITY = "synth.json"
"""The file that tells what the samples were rendered from."""

SHEET = "contact-sheet.png"
_NAME = re.compile(r"\d{5,}")


@dataclass(frozen=True)
class SampleFolder:
    """The folder at `path`, which need not exist yet."""

    path: Path

    def begin(self, identity: Mapping[str, Any], *, count: int, overwrite: bool) -> list[int]:
        """Makes the folder ready for samples; those of the same identity stay.

        Args:
            identity: all that the samples depend on, as JSON values.
            count: how many samples it is to hold, numbered from 0.
            overwrite: render all of them anew, whatever is there.

        Returns:
            The numbers of the samples that are missing.

        Raises:
            UsageError: there are samples beyond `count`, or of another identity or an unknown one.
        """
        there = self._numbers()
        if there and max(there) >= count:
            raise UsageError(
                f"{self.path}: found sample {max(there)}, expected none from {count} on; give "
                "another folder, or remove this one"
            )
        if there and not overwrite:
            self._check_identity(identity)
        if overwrite:
            # First what says that they are good: killed now, no run takes old samples for new ones.
            (self.path / IDENTITY).unlink(missing_ok=True)
            for number in there:
                for file in self._files(number).values():
                    file.unlink(missing_ok=True)
        for name in SUFFIXES:
            (self.path / name).mkdir(parents=True, exist_ok=True)
        content = json.dumps(identity, indent=2) + "\n"
        atomic_write(self.path / IDENTITY, content.encode(), overwrite=True)
        return [n for n in range(count) if not all(f.exists() for f in self._files(n).values())]

    def write(self, number: int, sample: Sample) -> None:
        """Writes a sample, each file whole or not at all."""
        files = self._files(number)
        write_photo(files["blurred"], Photo(pixels=sample.blurred), overwrite=True)
        write_photo(files["sharp"], Photo(pixels=sample.sharp), overwrite=True)
        write_mask(files["mask"], sample.mask, overwrite=True)
        write_mask(files["visible"], sample.visible, overwrite=True)
        with atomic_file(files["motion"], overwrite=True) as file:
            np.save(file, cell_motion(sample))

    def write_sheet(self, count: int) -> Path:
        """Writes a contact sheet of the first samples; returns its path."""
        pixels = contact_sheet([self._read(number) for number in range(count)], columns=2)
        write_photo(self.path / SHEET, Photo(pixels=pixels), overwrite=True)
        return self.path / SHEET

    def _read(self, number: int) -> Pictures:
        files = self._files(number)
        blurred, sharp = (read_photo(files[name]).pixels for name in ("blurred", "sharp"))
        height, width = blurred.shape[:2]
        mask, visible = (
            read_mask(files[name], shape=(height, width)) for name in ("mask", "visible")
        )
        return Pictures(
            blurred=blurred.view(np.uint8), sharp=sharp.view(np.uint8), mask=mask, visible=visible
        )

    def _files(self, number: int) -> dict[str, Path]:
        return {n: self.path / n / f"{number:05d}{suffix}" for n, suffix in SUFFIXES.items()}

    def _numbers(self) -> list[int]:
        """The numbers of all samples of which there is a file."""
        return sorted(
            {
                int(file.stem)
                for name, suffix in SUFFIXES.items()
                for file in (self.path / name).glob(f"*{suffix}")
                if _NAME.fullmatch(file.stem)
            }
        )

    def _check_identity(self, asked: Mapping[str, Any]) -> None:
        path = self.path / IDENTITY
        again = "give another folder, or --overwrite to render them anew"
        if not path.exists():
            raise UsageError(f"{self.path}: found samples, but no {IDENTITY} beside them; {again}")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            changed = sorted(name for name in asked if found[name] != asked[name])
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"{path} does not tell what the samples are: {error!r}; {again}"
            ) from error
        if changed:
            raise UsageError(f"{self.path}: found samples of other {', '.join(changed)}; {again}")
