"""A folder with all that the documentation's commands name."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from clips import make_clip
from pages import ROOT
from PIL import Image
from workers import once_for_all_workers

RECIPE = {"samples": 64, "steps": 2, "batch": 2, "active_pixels": 500, "size": 64}
"""What a training of the documentation is shortened to; a recipe's other lines stay."""


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Where the results of exports and trainings are kept, for all workers, and `m2a` itself."""
    return once_for_all_workers("once", make_once, tmp_path_factory)


def make_once(folder):
    (folder / "bin").mkdir(exist_ok=True)
    command = folder / "bin" / "m2a"
    kept = f'"{ROOT}/tests/docs/m2a_once.py"'
    command.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        f'  build-engine | export | train) exec "{sys.executable}" {kept} "$@" ;;\n'
        f'  *) exec "{sys.executable}" -m m2a "$@" ;;\n'
        "esac\n"
    )
    command.chmod(0o755)
    return folder


@pytest.fixture
def environment(once, tmp_path):
    """The environment of the documentation's commands: this tree, and no GPU."""
    paths = [str(once / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    kept = {name: value for name, value in os.environ.items() if name != "M2A_BUNDLE"}
    return kept | {
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": str(ROOT),
        "M2A_ONCE": str(once),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "CUDA_VISIBLE_DEVICES": "-1",
    }


@pytest.fixture
def folder(tmp_path, tiny_network):
    """The working directory of a page: photos, a checkpoint `model.pth`, recipes."""
    import torch

    place = tmp_path / "work"
    with Image.open(ROOT / "examples/shuttle.png") as shuttle:
        photo = shuttle.convert("RGB")
    parts = {
        **dict.fromkeys(("street.jpg", "a.jpg", "b.jpg", "photo.jpg"), (330, 40, 490, 136)),
        **dict.fromkeys(("photos/street.jpg", "photos/park.jpg"), (200, 40, 460, 300)),
        "photos/walk/tree.png": (300, 100, 380, 160),
        "trip/1.tif": (300, 100, 380, 160),
        "trip/2.tif": (320, 100, 400, 160),
        "damaged/whole.jpg": (300, 100, 380, 160),
    }
    for name, box in parts.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.crop(box).save(path)
    (place / "things").mkdir()
    thing = photo.crop((300, 40, 420, 160))
    thing.putalpha(Image.radial_gradient("L").resize(thing.size).point(lambda r: 255 * (r < 120)))
    thing.save(place / "things/thing.png")
    whole = (place / "damaged/whole.jpg").read_bytes()
    (place / "damaged/cut.jpg").write_bytes(whole[: len(whole) // 2])
    make_clip(place / "clip.mp4", frames=3)
    torch.save(tiny_network.state_dict(), place / "model.pth")
    (place / "recipes").mkdir()
    for recipe in (ROOT / "recipes").glob("*.toml"):
        (place / "recipes" / recipe.name).write_text(_shortened(recipe.read_text("utf-8")))
    return place


def _shortened(recipe: str) -> str:
    for name, value in RECIPE.items():
        recipe = re.sub(rf"(?m)^{name} = .*$", f"{name} = {value}", recipe)
    return recipe
