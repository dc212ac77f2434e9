"""Regions of the restoration graph that work row by row on what they gather.

The products of the restorer read gathered features: nine neighbours of each site in a block, four
children where the resolution halves, four corners around every point of a trajectory in the motion
analyzer. From the gather on, a site's result depends on its own rows alone, so that the sites may
be computed in any portions. A region is all that does so, from the gathers to the last operation
before something else is mixed in; in INT8 it may end before its last product.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from m2a.graphs.integer_products import PRODUCT
from m2a.graphs.operations import Network, Operation

__all__ = ["Region", "find_regions"]

_TABLE = re.compile(r"(neighbours|children)_([0-3])")
_SITES_OF_MOTION, _MOTION_LEVEL = "site_xy", 2

_ARITY = {
    "Add": 2,
    "Concat": 2,
    "Gather": 2,
    "Gemm": 3,
    "MatMul": 2,
    PRODUCT: 7,
    "Mul": 2,
    "QuantizeLinear": 3,
    "Reshape": 2,
    "Split": 1,
}
"""Inputs of the operators that are looked at; Concat appends the row of an absent site."""

_PRODUCTS = frozenset({"Gemm", "MatMul", PRODUCT})

_FP32_BYTES = 4

MOST_REGIONS = 64
"""A restorer has some fourteen. More are not looked at: a crafted graph could have any number."""


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
    """Finds the regions of a restoration graph, in the order in which they end.

    No operation lies in two of them that are not refused.
    """
    graph = _Graph(network)
    starts = _starts(graph)
    if len(starts) > MOST_REGIONS:
        return []
    regions = [_region(graph, level, sites, places) for level, sites, places in starts]
    regions.sort(key=lambda region: region.operations[-1])
    taken: set[int] = set()
    for number, region in enumerate(regions):
        if taken & set(region.operations):
            regions[number] = replace(region, refusal="it shares operations with another")
        elif region.refusal is None:
            taken |= set(region.operations)
    return regions


class _Graph:
    """A network, and who writes each tensor."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.operations = network.operations
        self._writers = {name: one for one in network.operations for name in one.outputs}
        self._of_motion = _made_from(_SITES_OF_MOTION, network.operations)

    def written_by(self, tensor: str, operator: str) -> Operation | None:
        """The operation that writes a tensor, if it is of that kind and has as many inputs."""
        found = self._writers.get(tensor)
        if found is None or found.operator != operator or len(found.inputs) != _ARITY[operator]:
            return None
        return found

    def flattened(self, tensor: str) -> Operation | None:
        """The Reshape that writes a tensor as one row of values, if one does."""
        reshape = self.written_by(tensor, "Reshape")
        flat = reshape is not None and self.network.integers(reshape.inputs[1]) == (-1,)
        return reshape if flat else None

    def is_column(self, tensor: str) -> bool:
        """Whether a tensor is a column [rows, 1] that the sites' coordinates decide."""
        reshape = self.written_by(tensor, "Reshape")
        return (
            reshape is not None
            and self.network.integers(reshape.inputs[1]) == (-1, 1)
            and reshape.inputs[0] in self._of_motion
        )

    def is_matrix_of_rows(self, tensor: str) -> bool:
        """Whether a tensor has two dimensions, as features with the row of an absent site have."""
        rounded = self.written_by(tensor, "QuantizeLinear")
        joined = self.written_by(tensor if rounded is None else rounded.inputs[0], "Concat")
        return (
            joined is not None
            and joined.integer("axis") == 0
            and any(self.network.rank(name) == 2 for name in joined.inputs)
        )


def _made_from(source: str, operations: Iterable[Operation]) -> set[str]:
    """A tensor, and all that operations, in their order, make from it."""
    made = {source}
    for operation in operations:
        if not made.isdisjoint(operation.inputs):
            made.update(operation.outputs)
    return made


def _starts(graph: _Graph) -> list[tuple[int, str, list[int]]]:
    """Level, tensor with a row a site, and places of the gathers, of each region."""
    starts, corners = [], []
    for place, operation in enumerate(graph.operations):
        counts = len(operation.inputs), len(operation.outputs)
        if operation.operator != "Gather" or counts != (_ARITY["Gather"], 1):
            continue
        rows = operation.inputs[1]
        flat = graph.flattened(rows)
        table = _TABLE.fullmatch(flat.inputs[0]) if flat is not None else None
        looked_up = graph.written_by(rows, "Gather")
        if table is not None:
            level = int(table[2]) + (table[1] == "children")
            starts.append((level, table[0], [place]))
        elif (
            looked_up is not None
            and looked_up.inputs[0] == "site_map"
            and graph.flattened(looked_up.inputs[1]) is not None
        ):
            # The corners around the points of the trajectories belong together.
            corners.append(place)
    return [*starts, (_MOTION_LEVEL, _SITES_OF_MOTION, corners)] if corners else starts


def _region(graph: _Graph, level: int, sites: str, gathers: list[int]) -> Region:
    """Takes operation after operation, as long as they work row by row on what was taken."""
    places, cuts = set(gathers), [graph.operations[place].inputs[1] for place in gathers]
    made = {name for place in gathers for name in graph.operations[place].outputs}
    for place, operation in enumerate(graph.operations):
        if place in places or not made & set(operation.inputs):
            continue
        columns = [name for name in operation.inputs if graph.is_column(name)]
        if _keeps_rows(graph.network, operation, made, columns):
            places.add(place)
            made |= set(operation.outputs)
            cuts += columns
    ordered = _up_to_bytes(graph.network, tuple(sorted(places)))
    made = {name for place in ordered for name in graph.operations[place].outputs}
    refusal = _refusal(graph, ordered, gathers, made)
    cut = tuple(dict.fromkeys(cuts))
    return Region(level=level, sites=sites, cuts=cut, operations=ordered, refusal=refusal)


def _up_to_bytes(network: Network, places: tuple[int, ...]) -> tuple[int, ...]:
    """Leaves a last product out where the bytes that it reads are fewer than those it writes.

    What leaves a region is copied once more, where its slices are joined. One product stays.
    """
    *_, before, last = [network.operations[place] for place in (0, *places)]
    rounded = before.operator == "QuantizeLinear" and before.outputs == last.inputs[:1]
    weight = network.array(last.inputs[1]) if last.operator == PRODUCT and rounded else None
    wide = weight is None or weight.shape[0] >= _FP32_BYTES * weight.shape[1]
    return places if wide or not _has_product(network, places[:-1]) else places[:-1]


def _has_product(network: Network, places: tuple[int, ...]) -> bool:
    return any(network.operations[place].operator in _PRODUCTS for place in places)


def _keeps_rows(network: Network, operation: Operation, made: set[str], columns: list[str]) -> bool:
    """Whether an operation on matrices that were made keeps each row to itself."""
    inputs = operation.inputs
    if len(inputs) != _ARITY.get(operation.operator):
        return False
    if operation.operator in ("Add", "Mul"):
        return all(n in made or n in columns or network.rank(n) in (0, 1) for n in inputs)
    if operation.operator == "Split":
        return operation.integer("axis") == 1
    if operation.operator == "Reshape":
        shape = network.integers(inputs[1]) or ()
        return len(shape) == 2 and shape[0] == -1 and shape[1] > 0
    if operation.operator == "MatMul":
        return network.rank(inputs[1]) == 2
    if operation.operator == "QuantizeLinear":
        return all(network.rank(name) == 0 for name in inputs[1:])
    if operation.operator == PRODUCT:
        return network.rank(inputs[1]) == 2 and not made & set(inputs[1:])
    if operation.operator == "Gemm":
        return (
            network.rank(inputs[1]) == 2
            and network.rank(inputs[2]) in (0, 1)
            and operation.integer("transA") == 0
        )
    return False


def _refusal(
    graph: _Graph, places: tuple[int, ...], gathers: list[int], made: set[str]
) -> str | None:
    for gather in (graph.operations[place] for place in gathers):
        result, (features, rows) = gather.outputs[0], gather.inputs
        if gather.integer("axis") != 0:
            return f"{result} gathers columns, expected rows"
        if features in made or rows in made:
            return f"{result} gathers what the region itself makes"
        if not graph.is_matrix_of_rows(features):
            return f"{features}, from which {result} gathers, is not known to be a matrix"
    inside = set(places)
    if not _has_product(graph.network, places):
        return f"no product follows {graph.operations[places[0]].outputs[0]}"
    leaving = made & graph.network.outputs
    for place, operation in enumerate(graph.operations):
        if place not in inside:
            leaving |= made & set(operation.inputs)
    last = graph.operations[places[-1]].outputs
    if leaving != set(last) or len(last) != 1:
        return f"{', '.join(sorted(leaving))} leave it, expected its last result alone"
    return None
