"""Regions of the restoration graph that work row by row on what they gather.

The products of the restorer read gathered features: nine neighbours of each site in a block, four
children where the resolution halves, four corners around every point of a trajectory in the motion
analyzer. From the gather on, a site's result depends on its own rows alone, so that the sites may
be computed in any portions. A region is all that does so, from the gathers to the last operation
before something else is mixed in.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from m2a.graphs.operations import Network, Operation

__all__ = ["Region", "find_regions"]

_TABLE = re.compile(r"(neighbours|children)_([0-3])")
_MOTION_LEVEL = 2

_ROW_BY_ROW = frozenset({"Add", "Gemm", "MatMul", "Mul", "Reshape", "Split"})
"""Operators that do, where `_mixes_rows` has nothing against the single operation."""

_PRODUCTS = frozenset({"Gemm", "MatMul"})


@dataclass(frozen=True, kw_only=True)
class Region:
    """Operations that compute each site's result from that site's rows alone.

    Attributes:
        level: of the sites.
        sites: a tensor with a row a site.
        cuts: tensors of which a site's rows are read, some a site.
        operations: places in the graph's operations, in their order, the gathers among them.
        refusal: why it cannot be computed in portions; None where it can.
    """

    level: int
    sites: str
    cuts: tuple[str, ...]
    operations: tuple[int, ...]
    refusal: str | None


def find_regions(network: Network) -> list[Region]:
    """Finds the regions of a restoration graph, in the order in which they end."""
    writers = {name: one for one in network.operations for name in one.outputs}
    gathers: dict[tuple[int, str], list[list[int]]] = defaultdict(list)
    for place, operation in enumerate(network.operations):
        if operation.operator != "Gather":
            continue
        rows = writers.get(operation.inputs[1])
        if rows is None:
            continue
        table = _TABLE.fullmatch(rows.inputs[0])
        if rows.operator == "Reshape" and table is not None:
            level = int(table[2]) + (table[1] == "children")
            gathers[level, table[0]].append([place])
        elif rows.operator == "Gather" and rows.inputs[0] == "site_map":
            # The corners around the points of the trajectories belong together.
            corners = gathers[_MOTION_LEVEL, "site_xy"] or [[]]
            corners[0].append(place)
            gathers[_MOTION_LEVEL, "site_xy"] = corners
    regions = [
        _region(network, writers, places, level=level, sites=sites)
        for (level, sites), several in gathers.items()
        for places in several
    ]
    return sorted(regions, key=lambda region: region.operations[-1])


def _region(
    network: Network,
    writers: Mapping[str, Operation],
    gathers: list[int],
    *,
    level: int,
    sites: str,
) -> Region:
    """Takes operation after operation, as long as they work row by row on what was taken."""
    places, cuts = set(gathers), [network.operations[place].inputs[1] for place in gathers]
    made = {name for place in gathers for name in network.operations[place].outputs}
    for place, operation in enumerate(network.operations):
        if place in places or not made & set(operation.inputs):
            continue
        others = [n for n in operation.inputs if n not in made and n not in network.weights]
        columns = [name for name in others if _is_column(network, writers.get(name))]
        if columns == others and not _mixes_rows(network, operation, made):
            places.add(place)
            made |= set(operation.outputs)
            cuts += columns
    ordered = tuple(sorted(places))
    return Region(
        level=level,
        sites=sites,
        cuts=tuple(dict.fromkeys(cuts)),
        operations=ordered,
        refusal=_refusal(network, ordered),
    )


def _is_column(network: Network, writer: Operation | None) -> bool:
    """Whether a tensor is a column [rows, 1]: a factor for each row."""
    return (
        writer is not None
        and writer.operator == "Reshape"
        and network.integers(writer.inputs[1]) == (-1, 1)
    )


def _mixes_rows(network: Network, operation: Operation, made: set[str]) -> bool:
    """Whether an operation on rows that were made does not keep each to itself."""
    if operation.operator not in _ROW_BY_ROW:
        return True
    if operation.operator == "Reshape":
        return (network.integers(operation.inputs[1]) or (0,))[0] != -1
    if operation.operator == "Split":
        return operation.integer("axis") not in (1, -1)
    if operation.operator in _PRODUCTS:
        return bool(made & set(operation.inputs[1:])) or operation.integer("transA") != 0
    return False


def _refusal(network: Network, places: tuple[int, ...]) -> str | None:
    inside = [network.operations[place] for place in places]
    for gather in inside:
        if gather.operator == "Gather" and gather.integer("axis") != 0:
            return f"{gather.outputs[0]} gathers columns, expected rows"
    if not any(operation.operator in _PRODUCTS for operation in inside):
        return f"no product follows {inside[0].outputs[0]}"
    made = {name for operation in inside for name in operation.outputs}
    leaving = made & network.outputs
    for place, operation in enumerate(network.operations):
        if place not in places:
            leaving |= made & set(operation.inputs)
    last = inside[-1].outputs
    if leaving != set(last) or len(last) != 1:
        return f"{', '.join(sorted(leaving))} leave it, expected its last result alone"
    return None
