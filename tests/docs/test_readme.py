"""The README's Python example runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def test_there_is_an_example():
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES)
def test_python_examples_run(example, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    exec(example, {})
    assert "of the pixels restored on ort-cpu" in capsys.readouterr().out


def test_pictures_and_files_that_are_linked_exist():
    links = re.findall(r"\]\(([^):#]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []
