"""`recipes/grow.py`: a larger network that computes the same."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from random_network import TINY, noise_image, random_network, to_tensor
from safetensors import safe_open

from m2a.models.checkpoint import HEADER, load_checkpoint, save_checkpoint

RECIPES = Path(__file__).resolve().parents[3] / "recipes"


@pytest.fixture
def grow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(RECIPES), *sys.path])  # as when it is run as a script
    main = runpy.run_path(str(RECIPES / "grow.py"))["main"]
    network = random_network(TINY, seed=4)
    header = {"training": [{"recipe": 1}], "threshold": 0.2}
    save_checkpoint(network, Path("tiny.safetensors"), metadata=header)
    return lambda *arguments: CliRunner().invoke(
        main, ["tiny.safetensors", "-o", "grown.safetensors", *arguments]
    )


GROWTHS = {
    "width": ("--width", str(2 * TINY.width)),
    "width and blocks": ("--width", str(3 * TINY.width), "--blocks", "2,1,1,3"),
    "blocks": ("--blocks", "2,1,1,3"),
    "mask stem": ("--mask-stem-width", "6"),
    "mask widths": ("--mask-widths", "8,8,12,16"),
    "mask blocks": ("--mask-blocks", "1,1,1,3"),
    "mask widths and blocks": ("--mask-widths", "8,8,12,16", "--mask-blocks", "2,1,1,2"),
}


@pytest.mark.parametrize("arguments", GROWTHS.values(), ids=GROWTHS)
def test_the_grown_network_computes_the_same(grow, arguments):
    done = grow(*arguments)
    assert done.exit_code == 0, done.output
    old, new = (load_checkpoint(Path(f"{name}.safetensors")) for name in ("tiny", "grown"))
    assert sum(p.numel() for p in new.parameters()) > sum(p.numel() for p in old.parameters())
    image = to_tensor(noise_image(64, 96))
    mask = (torch.rand((1, 1, 64, 96), generator=torch.Generator().manual_seed(1)) < 0.5).float()
    with torch.no_grad():
        # The kernels of a wider convolution may add in another order.
        tolerance = 1e-5 if "--width" in arguments else 0
        for found, expected in zip(new.restore(image, mask), old.restore(image, mask), strict=True):
            assert (found - expected).abs().max() <= tolerance * max(1.0, expected.abs().max())
        found, expected = new.predict_mask(image), old.predict_mask(image)
        added = 0.01 if "--mask-blocks" in arguments else 1e-5  # its blocks add next to nothing
        assert (found - expected).abs().max() < added * max(1.0, expected.std())


def test_a_mirrored_mask_is_asked_for(grow):
    assert grow("--blocks", "1,1,1,2", "--mask-mirrored").exit_code == 0
    assert load_checkpoint(Path("grown.safetensors")).config.mask_mirrored


@pytest.mark.parametrize("arguments", GROWTHS.values(), ids=GROWTHS)
def test_what_is_new_can_learn(grow, arguments):
    assert grow(*arguments).exit_code == 0
    old, new = (load_checkpoint(Path(f"{name}.safetensors")) for name in ("tiny", "grown"))
    image, mask = to_tensor(noise_image(64, 96)), torch.ones(1, 1, 64, 96)
    new.train()
    (
        new.restore(image, mask).residual.square().sum() + new.predict_mask(image).square().sum()
    ).backward()
    known = old.state_dict()
    fresh = [
        parameter.grad
        for name, parameter in new.named_parameters()
        if name not in known or known[name].shape != parameter.shape
    ]
    assert fresh
    assert any(bool(gradient.any()) for gradient in fresh)


def test_copies_of_a_channel_part_in_training(grow):
    assert grow("--width", str(2 * TINY.width)).exit_code == 0
    new = load_checkpoint(Path("grown.safetensors")).train()
    target = torch.rand((1, 3, 64, 96), generator=torch.Generator().manual_seed(2))
    residual = new.restore(to_tensor(noise_image(64, 96)), torch.ones(1, 1, 64, 96)).residual
    (residual - target).square().sum().backward()
    gradient = new.restorer.decoder[1][0].project.weight.grad.flatten(1)
    cosines = torch.cosine_similarity(*gradient.chunk(2), dim=1)
    assert cosines.abs().median() < 0.999  # read in equal shares, all are 1


def test_the_history_goes_on(grow):
    assert grow("--blocks", "1,1,1,2", "--seed", "7").exit_code == 0
    with safe_open("grown.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()[HEADER])
    changes = {"blocks": [1, 1, 1, 2]}
    assert header["training"] == [{"grown_from": [{"recipe": 1}], "changes": changes, "seed": 7}]
    assert header["threshold"] == 0.2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--mask-widths", "2,8,8,8"), "cannot grow"),
        (("--mask-stem-width", "2"), "cannot grow"),
        (("--mask-blocks", "0,0,0,0"), "lacks mask_predictor.encoder"),
        (("--width", str(TINY.width + 2)), "expected a multiple"),
        (("--blocks", "1,1,1"), "blocks must be 4 integers"),
        (("--blocks", "1,1,1,x"), "expected four integers"),
    ],
)
def test_what_cannot_grow_is_refused(grow, arguments, words):
    done = grow(*arguments)
    assert done.exit_code in (1, 2)
    assert words in done.output
    assert not Path("grown.safetensors").exists()
