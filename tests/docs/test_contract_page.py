"""What `contract.md` retypes is what the code writes."""

from __future__ import annotations

import json
import re

from pages import ROOT

PAGE = (ROOT / "docs/contract.md").read_text(encoding="utf-8")


def fields_of(heading):
    section = PAGE.split(f"### `{heading}`")[1].split("\n### ")[0]
    return set(re.findall(r"(?m)^\| `(\w+)` \|", section))


def test_the_manifest_has_the_fields_of_the_page():
    manifest = json.loads((ROOT / "m2a/bundled/manifest.json").read_text("utf-8"))
    assert fields_of("manifest.json") == {*manifest, "limits", "variants"}


def test_the_inputs_that_are_explained_are_the_contracts():
    from m2a.graphs.contract import CONTRACTS

    inputs = {re.sub(r"_\d$", "_l", port.name) for port in CONTRACTS["restore"].inputs}
    assert fields_of("restore.onnx") == inputs


def test_figures_are_small():
    figures = [p for p in (ROOT / "docs/figures").iterdir() if p.suffix in {".jpg", ".png", ".svg"}]
    assert len(figures) == 3
    assert sum(figure.stat().st_size for figure in figures) < 400_000
