"""What the tests of the scripts in `recipes/` that train share."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image
from skimage import data

from m2a.training.config import read_recipe
from m2a.training.pool import render_shard

RECIPES = Path(__file__).resolve().parents[1] / "recipes"

RECIPE = """
parts = ["restorer"]
samples = 64
steps = 2
batch = 8
active_pixels = 1000
held_out = ["astronaut"]
[synthesis]
size = 32
blur_length = [3.0, 8.0]
"""


def load_script(name, **constants):
    """The script of that name as a module, some of its constants replaced."""
    spec = importlib.util.spec_from_file_location(f"{name}_recipe", RECIPES / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for constant, value in constants.items():
        assert hasattr(script, constant)
        setattr(script, constant, value)
    return script


def write_place():
    """Two photographs, of which one is held out, and `recipe.toml`, in the working directory."""
    Path("photos").mkdir()
    for name in ("astronaut", "chelsea"):
        Image.fromarray(getattr(data, name)()).save(f"photos/{name}.png")
    Path("recipe.toml").write_text(RECIPE)


def render_samples():
    """What `RECIPE` trains on, where the runs look for it: a process of its own takes longer."""
    folder = Path("out/samples")
    folder.mkdir(parents=True)
    config = read_recipe(Path("recipe.toml")).synthesis
    shard = render_shard([data.chelsea()], np.random.default_rng(0), config, cutouts=[])
    np.save(folder / "shard-00000.npy", shard)


def run_script(script, *arguments):
    """What a command of a script prints; it must succeed."""
    done = CliRunner().invoke(script.main, [*arguments, "-o", "out"])
    assert done.exit_code == 0, done.output
    return done.output
