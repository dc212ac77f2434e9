"""`m2a run --config`: the command line goes before the file, the file before the defaults."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2a.commands.config_file import read_options
from m2a.commands.run_command import command
from m2a.commands.serve_command import command as serve_command
from m2a.errors import UsageError

CONFIG = "m2a.toml"


@pytest.fixture
def run(invoke, photo):
    """Runs `m2a run` on a photo with the text as its configuration; returns its coverage."""

    def run(text: str, *arguments: str) -> float:
        Path(CONFIG).write_text(text, encoding="utf-8")
        result = invoke(
            "run", photo, "-o", "out.png", "--overwrite", "--json", "--config", CONFIG, *arguments
        )
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["coverage"]

    return run


def test_precedence(run):
    for name, rows in (("half", 20), ("quarter", 10)):
        mask = np.zeros((40, 50), np.uint8)
        mask[:rows] = 255
        Image.fromarray(mask).save(f"{name}.png")
    assert run("") not in (0.5, 0.25)  # the default: the mask is predicted
    assert run('mask-in = "half.png"') == 0.5
    assert run('mask-in = "half.png"', "--mask-in", "quarter.png") == 0.25


def test_a_number(run):
    low, high = run("", "--threshold", "0.001"), run("", "--threshold", "1")
    assert low != high
    assert run("threshold = 0.001") == low
    assert run("threshold = 1") == high
    assert run("threshold = 0.001", "--threshold", "1") == high


def test_the_order_on_the_command_line_does_not_matter(invoke, photo):
    Path(CONFIG).write_text('backend = "abacus"', encoding="utf-8")
    before = invoke("run", "--config", CONFIG, "--backend", "ort-cpu", photo, "-o", "1.png")
    after = invoke("run", "--backend", "ort-cpu", photo, "-o", "2.png", "--config", CONFIG)
    assert before.exit_code == after.exit_code == 0
    assert "abacus" in invoke("run", photo, "-o", "3.png", "--config", CONFIG).stderr


def test_a_switch_is_set_by_the_file_and_unset_by_the_command_line(invoke, photo):
    Path(CONFIG).write_text("overwrite = true\njson = true", encoding="utf-8")
    Path("out.png").write_text("old")
    arguments = ("run", photo, "-o", "out.png", "--config", CONFIG)
    assert invoke(*arguments, "--no-overwrite").exit_code == 2
    assert json.loads(invoke(*arguments).stdout)["output"] == "out.png"
    assert invoke(*arguments, "--no-json").stdout == ""


def test_a_switch_unset_by_the_file_is_set_by_the_command_line(invoke, photo):
    Path(CONFIG).write_text("overwrite = false", encoding="utf-8")
    Path("out.png").write_text("old")
    arguments = ("run", photo, "-o", "out.png", "--config", CONFIG)
    assert invoke(*arguments).exit_code == 2
    assert invoke(*arguments, "--overwrite").exit_code == 0


def test_the_output_may_stand_in_the_file(invoke, photo):
    Path(CONFIG).write_text('output = "sharp.png"\nmask-out = "mask.png"', encoding="utf-8")
    assert invoke("run", photo, "--config", CONFIG).exit_code == 0
    assert Path("sharp.png").is_file()
    assert Path("mask.png").is_file()


@pytest.mark.parametrize(
    "text",
    [
        "treshold = 0.3",
        "as_json = true",
        'config = "other.toml"',
        "help = true",
        'threshold = "0.3"',
        "threshold = true",
        "dilate = 1.5",
        "dilate = true",
        'overwrite = "yes"',
        "overwrite = 1",
        "suffix = 3",
        'output = "a\\u0000b"',
        "[run]\nthreshold = 0.3",
        "threshold = ",
        "threshold = 0.3\nthreshold = 0.4",
        "\udcff",
    ],
)
def test_what_cannot_be_meant_is_one_line_that_names_the_file(invoke, photo, text):
    Path(CONFIG).write_bytes(text.encode("utf-8", "surrogateescape"))
    result = invoke("run", photo, "-o", "out.png", "--config", CONFIG)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"m2a: {CONFIG}: found ")
    assert not Path("out.png").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("treshold = 0.3", "did you mean threshold?"),
        ("mask_out = 'a.png'", "did you mean mask-out"),
        ("xyz = 1", "`m2a run --help` lists them"),
        ('overwrite = "yes"', "found overwrite = 'yes', expected true or false"),
        (
            "dilate = 3\noverwrite = yes  # of course",
            "found overwrite = yes, expected true or false",
        ),
        ("mask-out = masks", "found mask-out = masks, expected a string in quotes"),
        ("threshold = half", "found threshold = half, expected a number"),
    ],
)
def test_a_slip_is_told_with_what_was_meant(invoke, photo, text, words):
    Path(CONFIG).write_text(text)
    result = invoke("run", photo, "-o", "out.png", "--config", CONFIG)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr) < 160


def test_a_file_that_is_not_there(invoke, photo):
    result = invoke("run", photo, "-o", "out.png", "--config", "nowhere.toml")
    assert result.exit_code == 2
    assert "nowhere.toml: found no such file" in result.stderr
    assert invoke("run", photo, "-o", "out.png", "--config", ".").exit_code == 2


def test_every_option_of_run_can_stand_in_the_file(tmp_path):
    path = tmp_path / CONFIG
    keys = [
        option.opts[-1].removeprefix("--")
        for option in command.params
        if option.opts[-1].startswith("--") and option.name != "config"
    ]
    assert {"output", "backend", "threshold", "recursive", "strip-metadata", "json"} <= set(keys)
    for key in keys:
        fitting = 0
        for value in ("true", "1", '"text"'):
            path.write_text(f"{key} = {value}", encoding="utf-8")
            with contextlib.suppress(UsageError):
                fitting += len(read_options(path, command))
        assert fitting == 1, key


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("port = 0\nworkers = 2", {"port": 0, "workers": 2}),
        ("timeout = 2.5\nbody-timeout = 3", {"timeout": 2.5, "body_timeout": 3}),
        ('allow-origin = "https://a"', {"allow_origin": ["https://a"]}),
        ('allow-host = ["a", "b"]', {"allow_host": ["a", "b"]}),
        ("allow-host = []", {"allow_host": []}),
    ],
)
def test_numbers_in_a_range_and_what_can_be_repeated(tmp_path, text, found):
    path = tmp_path / CONFIG
    path.write_text(text, encoding="utf-8")
    assert read_options(path, serve_command) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port = true", "found port = True, expected an integer"),
        ("port = 80.5", "found port = 80.5, expected an integer"),
        ("timeout = false", "found timeout = False, expected a number"),
        ('timeout = "9"', "found timeout = '9', expected a number"),
        ("token-file = ['a']", r"found token-file = \['a'\], expected a string in quotes"),
        ("allow-host = 3", "found allow-host = 3, expected a string in quotes, or a list of such"),
        (
            "allow-host = ['a', 3]",
            r"found allow-host = \['a', 3\], expected a string in quotes, or",
        ),
        ('allow-host = ["a\\u0000b"]', "expected a string in quotes, or a list of such"),
    ],
)
def test_what_fits_neither_is_told(tmp_path, text, words):
    path = tmp_path / CONFIG
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        read_options(path, serve_command)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port = 65536", "Invalid value for '--port': 65536 is not in the range"),
        ('allow-origin = ["https://a", "*"]', "found the origin '*'"),
    ],
)
def test_they_reach_the_command(invoke, text, words):
    Path(CONFIG).write_text(text, encoding="utf-8")
    result = invoke("serve", "--config", CONFIG)
    assert result.exit_code == 2
    assert words in result.stderr
