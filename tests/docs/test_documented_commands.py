"""Every command that the documentation shows runs, page by page, in the order of the page."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager, nullcontext
from itertools import groupby

import click
import pytest
from pages import BLOCKS, BY_CI, LANGUAGES, PAGES, ROOT, Block

from m2a.cli import main
from m2a.commands.config_file import read_options
from m2a.training.config import read_recipe

SHORTENED = {
    "--count 100": "--count 2",
    "--only NAME": "--only street",
    "m2a bench --plot": "m2a bench --sizes 64x64 --coverages 20 --repeats 1 --plot",
    # `small` takes a minute to export; `test_end_to_end.py` does so.
    "--ckpt runs/mask/model.safetensors": "--ckpt model.pth",
    # Half of an export; other tests trace and compare it.
    "m2a export --ckpt model.pth": "m2a export --ckpt model.pth --without-dense",
}
"""What a command is shortened by, where it would take minutes or has a name to fill in."""

README_EXITS = {
    "m2a build-engine --fp16                 # for the GPU at hand": 1,
    "m2a inspect m2a-bundle/engines/*/mask.engine": 1,
}
"""Commands of the README that need a GPU, and what they end with where there is none."""

NOT_RUN = {
    "run by .ci/run": 2,
    "no such device at hand": 13,
    "the tests use an environment that is installed already": 6,
    "it needs NVIDIA's container": 1,
    "it needs a server; a test runs it against one": 1,
    "it serves until it is stopped": 1,
    "it needs several machines": 1,
    "it needs photos with motion blur": 1,
    "it takes a GPU": 2,
    "it needs a bucket; a test does the same with a local S3 server": 1,
    "on a busy machine it may find noise that is larger than that": 1,
    "the tests use an environment that is installed already; CI runs the README's installation": 1,
}
"""Reason → how many blocks of all pages are not run for it."""

RUN = [block for block in BLOCKS if block.not_run is None]


def of_pages(blocks):
    return {page: list(found) for page, found in groupby(blocks, key=lambda block: block.page)}


PAGES_RUN = of_pages(RUN)


SERVED = "docs/guides/serve.md"
"""The page whose commands speak to a running service."""


@pytest.mark.parametrize("page", PAGES_RUN)
def test_the_commands_of_a_page_run(page, folder, environment):
    with service(folder, environment) if page == SERVED else nullcontext():
        run_page(page, folder, environment)


@contextmanager
def service(folder, environment):
    """`m2a serve` as the page starts it."""
    command = ["m2a", "serve"]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert any(line.startswith("http://127.0.0.1:8077") for line in process.stderr)
            yield
        finally:
            process.terminate()


def run_page(page, folder, environment):
    for block in PAGES_RUN[page]:
        if block.language == "toml":
            (folder / file_name(block)).write_text(block.code, encoding="utf-8")
        elif block.language == "python" and page != "README.md":  # `test_readme.py` runs those
            run([sys.executable, "-c", block.code], block, folder, environment, expected=0)
        elif block.language == "sh":
            for line in block.lines:
                if "engine" in line and importlib.util.find_spec("tensorrt_rtx") is None:
                    pytest.skip("TensorRT for RTX is not installed")
                command = ["bash", "-euo", "pipefail", "-c", shortened(line)]
                expected = README_EXITS.get(line, block.exit_code)
                run(command, block, folder, environment, expected=expected)


def run(command, block, folder, environment, *, expected):
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    said = f"{block}\n{command[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert done.returncode == expected, said
    assert "Traceback" not in done.stderr, said


def shortened(line):
    for long, short in SHORTENED.items():
        line = line.replace(long, short)
    return line


def file_name(block: Block) -> str:
    """A block's own name for the file that it shows; the README's is the one it speaks of."""
    named = re.match(r"# (\S+\.toml)\n", block.code)
    return named[1] if named else "m2a.toml"


def test_what_is_not_run_and_why():
    assert Counter(block.not_run for block in BLOCKS if block.not_run) == NOT_RUN


def test_what_is_shortened_is_there():
    shown = "\n".join(block.code for block in RUN)
    assert [long for long in SHORTENED if long not in shown] == []
    assert [line for line in README_EXITS if line not in shown] == []


def test_no_block_escapes():
    """A block of another language would be shown and not run."""
    assert {block.language for block in BLOCKS} == set(LANGUAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_directives_stand_in_backticks(page):
    """Sphinx shows others as text and does not warn."""
    assert ":::" not in page.read_text("utf-8")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.exit_code], ids=str)
def test_one_command_where_one_fails(block):
    """`-e` would hide the commands after it."""
    assert len(block.lines) == 1


@pytest.mark.parametrize(
    "block",
    [b for b in BLOCKS if b.page in ("docs/guides/jetson.md", "docs/guides/server.md")],
    ids=str,
)
def test_on_devices_that_we_have_not_each_step_says_whether_it_was_run(block):
    assert block.status.startswith(("Run here", "Not run: no such device at hand"))


def test_ci_runs_the_blocks_that_are_left_to_it():
    script = (ROOT / ".ci/run").read_text("utf-8")
    assert {block.status for block in BLOCKS if block.not_run == "run by .ci/run"} == BY_CI
    assert all(f"command_after '{status[5:-4]}'" in script for status in BY_CI)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "toml"], ids=str)
def test_files_of_options_and_recipes_are_read(block, tmp_path):
    path = tmp_path / file_name(block)
    path.write_text(block.code, encoding="utf-8")
    if path.name == "recipe.toml":
        assert read_recipe(path).steps == 20_000
    else:
        assert read_options(path, main.get_command(click.Context(main), "run"))


def help_examples():
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        for line in re.findall(r"(?m)^ +(m2a .+)$", command.help or ""):
            # Each `m2a` of a line, without what the shell takes from it.
            for part in line.split("&&"):
                yield re.split(r" [<>] ", part)[0].strip()


@pytest.mark.parametrize("example", list(help_examples()))
def test_the_options_of_an_example_of_help_exist(example):
    _, name, *arguments = shlex.split(example)
    command = main.get_command(click.Context(main), name)
    command.make_context(name, arguments)


def test_every_command_has_an_example():
    assert {example.split()[1] for example in help_examples()} == set(
        main.list_commands(click.Context(main))
    )


def test_pages_are_found():
    assert len(PAGES) > 10
    assert len(PAGES_RUN) > 8
