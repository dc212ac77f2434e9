"""The README's Python example runs as it stands, and what the README links is there.

Its commands run in `test_documented_commands.py`.
"""

from __future__ import annotations

import re
import shutil

import pytest
from pages import BLOCKS, README, ROOT

EXAMPLES = [b.code for b in BLOCKS if b.page == README.name and b.language == "python"]


def test_there_is_an_example():
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES)
def test_python_examples_run(example, monkeypatch, capsys, tmp_path):
    (tmp_path / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "shuttle.png", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert "of the pixels restored on ort-cpu" in capsys.readouterr().out


def test_pictures_and_files_that_are_linked_exist():
    links = re.findall(r"\]\(([^):#]+)\)", README.read_text("utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []
