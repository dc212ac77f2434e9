"""The exit codes of the README: 0 done, 1 failed, 2 misuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_pictures import draw

EXIT_CODES = {
    2: {
        "a photo that is not there": ("run", "nowhere.png", "-o", "out.png"),
        "none of several that is there": ("run", "x.png", "y.png", "-o", "out/"),
        "the same into a folder": ("run", "nowhere.png", "-o", "out/"),
        "a pattern without a match": ("run", "nowhere*.png", "-o", "out/"),
        "a folder without a picture": ("run", "empty", "-o", "out/"),
        "a page of a photo that is not there": ("report", "nowhere.png", "-o", "out.html"),
        "a mask that is not there": ("run", "a.png", "-o", "out.png", "--mask-in", "nowhere.png"),
        "a bundle that is not there": ("run", "a.png", "-o", "out.png", "--bundle", "nowhere"),
        "options that are not there": ("run", "a.png", "-o", "out.png", "--config", "no.toml"),
        "an unknown suffix": ("run", "a.png", "-o", "out.gif"),
        "an unknown suffix for many": ("run", "photos", "-o", "out", "--suffix", ".gif"),
        "a page that is none": ("report", "a.png", "-o", "out.png"),
        "a folder that is not there": ("run", "a.png", "-o", "out/deep/out.png"),
        "an output in the way": ("run", "a.png", "-o", "there.png"),
        "outputs in the way": ("run", "photos", "-o", "photos"),
        "a page in the way": ("report", "a.png", "-o", "there.html"),
        "a threshold": ("run", "a.png", "-o", "out.png", "--threshold", "2"),
        "a dilation": ("report", "a.png", "-o", "out.html", "--dilate", "-1"),
        "a quality": ("run", "a.png", "-o", "out.jpg", "--quality", "101"),
        "a backend": ("run", "a.png", "-o", "out.png", "--backend", "abacus"),
        "a precision": ("run", "a.png", "-o", "out.png", "--precision", "int9"),
        "a precision that is not there": ("run", "a.png", "-o", "out.png", "--precision", "fp16"),
        "a size of memory": ("run", "a.png", "-o", "out.png", "--max-memory", "much"),
        "too little memory": ("run", "a.png", "-o", "out.png", "--max-memory", "1K"),
        "an unknown option": ("run", "a.png", "-o", "out.png", "--zzz"),
        "no output": ("run", "a.png"),
        "a folder that is no bundle": ("run", "a.png", "-o", "out.png", "--bundle", "empty"),
        "a checkpoint that is not there": ("export", "--ckpt", "nowhere.pth"),
        "a recipe that is not there": ("train", "no.toml", "--photos", "photos", "-o", "runs"),
    },
    1: {
        "a photo that is damaged": ("run", "bad.png", "-o", "out.png"),
        "one of several that is not there": ("run", "a.png", "nowhere.png", "-o", "done/"),
        "one of several that is damaged": ("run", "a.png", "bad.png", "-o", "done/"),
        "a page of a photo that is damaged": ("report", "bad.png", "-o", "out.html"),
        "a folder as a photo's mask": ("run", "a.png", "-o", "out.png", "--mask-in", "empty"),
        "too many pixels": ("run", "a.png", "-o", "out.png", "--max-pixels", "10"),
        "a bundle that is damaged": ("run", "a.png", "-o", "out.png", "--bundle", "damaged"),
        "the same for many": ("run", "photos", "-o", "out/", "--bundle", "damaged"),
        "a backend that is not here": ("run", "a.png", "-o", "out.png", "--backend", "tensorrt"),
    },
    0: {
        "all done": ("run", "a.png", "-o", "done.png"),
        "all skipped": ("run", "a.png", "-o", "there.png", "--skip-existing"),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        pytest.param(code, arguments, id=f"{code}: {name}")
        for code, cases in EXIT_CODES.items()
        for name, arguments in cases.items()
    ],
)
def test_exit_codes_are_those_of_the_readme(invoke, monkeypatch, code, arguments):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    draw("a.png")
    draw("photos/a.png")
    Path("empty").mkdir()
    Path("damaged").mkdir()
    Path("damaged/manifest.json").write_text("{}")
    for name in ("bad.png", "there.png", "there.html"):
        Path(name).write_text("precious")
    before = {path for path in Path().rglob("*") if path.name != "done"}
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if code:
        written = {path for path in Path().rglob("*") if path.parts[0] != "done"} - before
        assert not written
        assert Path("there.png").read_text() == "precious"
