"""How the documentation is built: `python -m sphinx -n -W --keep-going -b html docs build/docs`.

Nothing is fetched. `m2a` is imported, with torch, for its docstrings.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from sphinx.application import Sphinx

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from m2a._version import __version__  # noqa: E402 - found by the line above

project = "m2a"
author = "The m2a authors"
copyright = author  # noqa: A001 - Sphinx's name for it
version = release = __version__

extensions = [
    "contract_tables",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
exclude_patterns = ["not-yet.md"]  # included by other pages
html_theme = "furo"
html_title = f"m2a {release}"
html_show_sphinx = False
html_show_copyright = False

myst_heading_anchors = 3

default_role = "code"  # docstrings write `code` in single backticks
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
python_use_unqualified_type_names = True

nitpick_ignore_regex = [
    # Other projects' names: their inventories would have to be fetched.
    (r"py:.*", r"(click|collections|np|numpy|onnx|pathlib|Path|types|typing|torch)(\..*)?"),
    (r"py:.*", r"(Any|Callable|Mapping|Sequence|NDArray|Iterable|Iterator|ModuleType)"),
    (r"py:.*", r"(bool|dict|float|int|list|str|tuple|None|bytes|Exception|ValueError)"),
    # Names of types that a signature shows and that need no entry of their own.
    (r"py:.*", r"(m2a\.models\.network\.)?M2AENet"),
    (r"py:.*", r"(m2a\.runtime\.pixels\.)?Pixels"),
    (r"py:.*", r"(m2a\.runtime\.(backends|stopwatch)\.)?(Runner|Stopwatch)"),
    (r"py:.*", r"tuple\[.*"),
]


def show_examples_as_code(_: Sphinx, __: click.Context, lines: list[str]) -> None:
    """In a command's description: what click keeps line by line and indents is code."""
    shown: list[str] = []
    in_code = False
    for line in lines:
        kept = line.startswith("| ")
        text = line.removeprefix("| ")
        if kept and text.startswith(" "):
            if not in_code:
                shown += ["", ".. code-block:: text", ""]
            text = f"   {text.strip()}"
        in_code = kept and text.startswith(" ")
        shown.append(text)
    lines[:] = shown


def setup(app: Sphinx) -> None:
    """Connects to sphinx-click."""
    app.connect("sphinx-click-process-description", show_examples_as_code)
