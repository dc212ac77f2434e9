"""Directives that take the contract of graphs and engines from the code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from m2a.engines.profiles import default_profiles
from m2a.graphs.contract import ALL_CONTRACTS, IR_VERSION, OPSET, TYPED_OPERATORS, Port


class Operators(SphinxDirective):
    """The operators of a graph, or those that a precision adds to both."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Returns them in alphabetical order."""
        (name,) = self.arguments
        names = ALL_CONTRACTS[name].operators if name in ALL_CONTRACTS else TYPED_OPERATORS[name]
        return self.parse_text_to_nodes(_listed(sorted(names)) + ".")


class Ports(SphinxDirective):
    """A table of a graph's `inputs` or `outputs`."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Returns the table."""
        graph, side = self.arguments
        ports: tuple[Port, ...] = getattr(ALL_CONTRACTS[graph], side)
        rows = [(f"`{port.name}`", port.dtype, _shape(port)) for port in ports]
        return self.parse_text_to_nodes(_table((side[:-1], "type", "shape"), rows))


class Profiles(SphinxDirective):
    """A table of a graph's optimization profiles."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Returns the table: smallest, typical and largest of each dynamic dimension."""
        profiles = default_profiles(self.arguments[0])
        names = list(profiles[0].sizes)
        rows = [
            (f"`{profile.name}`", *(" … ".join(map(str, profile.sizes[name])) for name in names))
            for profile in profiles
        ]
        return self.parse_text_to_nodes(_table(("profile", *(f"`{n}`" for n in names)), rows))


class GraphVersions(SphinxDirective):
    """The operator set and the IR version that graphs are written in."""

    def run(self) -> list[nodes.Node]:
        """Returns one sentence."""
        text = f"Operator set {OPSET} of `ai.onnx` and no other, IR version {IR_VERSION}."
        return self.parse_text_to_nodes(text)


def setup(app: Sphinx) -> Mapping[str, Any]:
    """Registers the directives."""
    app.add_directive("operators", Operators)
    app.add_directive("ports", Ports)
    app.add_directive("profiles", Profiles)
    app.add_directive("graph-versions", GraphVersions)
    return {"parallel_read_safe": True}


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _shape(port: Port) -> str:
    return "`[" + ", ".join(map(str, port.shape)) + "]`"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
