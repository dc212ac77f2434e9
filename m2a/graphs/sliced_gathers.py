"""Graph rewrite for a CPU: gathers and their products in slices of sites that stay in its cache.

    f(Gather(x, rows))  →  Concat(f(Gather(x, rows_1)), …, f(Gather(x, rows_K)))

A block gathers the nine neighbours of every site and multiplies them. What it gathers, nine times
the features, is the largest tensor of the graph: hundreds of megabytes that are written once to be
read once. As each site is computed from its own rows alone (`m2a.graphs.row_regions`), the sites
may be taken in K slices, with the same results: a slice is still in the cache when it is read, and
what is gathered takes the memory of one slice.

Slice k ends at site ⌊(k + 1) · N / K⌋, which the graph computes from N. Shapes inside it then
depend on data, which the contract forbids and TensorRT would not like: so this is no graph of a
bundle. It is made where a graph is opened on a CPU, from one that passed the check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from m2a.graphs.operations import Network, Operation, integer_attribute
from m2a.graphs.row_regions import Region, find_regions

__all__ = ["SLICES", "slice_gathers"]

SLICES: Mapping[int, int] = {0: 16, 1: 8, 2: 4}
"""Level → K. At 10 % of three megapixels a slice of width 16 gathers some 11 MB. More slices gain
no time and take longer to open; what level 3 gathers is small."""

_PREFIX = "sliced/"
"""Of the names of new tensors. A graph in which it stands anywhere stays as it is."""


def slice_gathers(graph: bytes, slices: Mapping[int, int] = SLICES) -> bytes:
    """Rewrites the regions of a restoration graph.

    Args:
        graph: a serialised model that passed `m2a.graphs.contract.check_serialised`.
        slices: level → number of slices, at least 1; a level that is not there stays as it is.

    Returns:
        The serialised model. A region with a `refusal` stays as it is. A graph without regions,
        such as the mask graph, or whose nodes are not in order, is returned itself.

    Raises:
        WireError: the bytes are no model.
    """
    if _PREFIX.encode() in graph:
        return graph
    network = Network(graph)
    if not network.in_order():
        return graph
    regions = {
        region.operations[-1]: region
        for region in find_regions(network)
        if region.refusal is None and slices.get(region.level, 1) > 1
    }
    if not regions:
        return graph
    replaced = {place for region in regions.values() for place in region.operations}
    cuts: dict[str, _Cuts] = {}
    operations: list[Operation] = []
    for place, operation in enumerate(network.operations):
        if place in regions:
            region = regions[place]
            if region.sites not in cuts:
                cuts[region.sites] = _Cuts(region.sites, slices[region.level])
                operations += cuts[region.sites].sizes()
            operations += _sliced(network, region, cuts[region.sites])
        elif place not in replaced:
            operations.append(operation)
    constants = {name: values for one in cuts.values() for name, values in one.constants.items()}
    return network.with_operations(operations, constants)


class _Cuts:
    """Cutting tensors of some rows a site into slices of whole sites.

    Attributes:
        slices: their number.
        constants: vectors that the operations read.
    """

    def __init__(self, sites: str, slices: int) -> None:
        self.slices = slices
        self._sites, self._name = sites, f"{_PREFIX}{sites}"
        self._done: set[str] = set()
        self.constants = {
            f"{self._name}/lower": np.arange(slices),
            f"{self._name}/upper": np.arange(slices) + 1,
            f"{self._name}/slices": np.array([slices]),
        }

    def sizes(self) -> list[Operation]:
        """Computes how many sites each slice has."""
        name = self._name
        return [
            _rows_of(self._sites, f"{name}/sites"),
            _computed("Mul", f"{name}/sites", f"{name}/upper", f"{name}/upper_sites"),
            _computed("Div", f"{name}/upper_sites", f"{name}/slices", f"{name}/end"),
            _computed("Mul", f"{name}/sites", f"{name}/lower", f"{name}/lower_sites"),
            _computed("Div", f"{name}/lower_sites", f"{name}/slices", f"{name}/begin"),
            _computed("Sub", f"{name}/end", f"{name}/begin", f"{name}/sizes"),
        ]

    def cut(self, tensor: str) -> list[Operation]:
        """Cuts a tensor, if that is not done yet."""
        if tensor in self._done:
            return []
        self._done.add(tensor)
        name = f"{_PREFIX}{tensor}"
        return [
            _rows_of(tensor, f"{name}/rows"),
            _computed("Div", f"{name}/rows", f"{self._name}/sites", f"{name}/rows_a_site"),
            _computed("Mul", f"{name}/rows_a_site", f"{self._name}/sizes", f"{name}/lengths"),
            Operation(
                operator="Split",
                inputs=(tensor, f"{name}/lengths"),
                outputs=tuple(_part(tensor, number) for number in range(self.slices)),
                attributes=(integer_attribute("axis", 0),),
            ),
        ]


def _sliced(network: Network, region: Region, cuts: _Cuts) -> Iterator[Operation]:
    """A region's operations on each slice of its rows, and the results joined."""
    for tensor in region.cuts:
        yield from cuts.cut(tensor)
    inside = [network.operations[place] for place in region.operations]
    names = [name for operation in inside for name in operation.outputs] + list(region.cuts)
    (result,) = inside[-1].outputs
    for number in range(cuts.slices):
        parts = {name: _part(name, number) for name in names}
        for operation in inside:
            yield operation.renamed(parts)
    yield Operation(
        operator="Concat",
        inputs=tuple(_part(result, number) for number in range(cuts.slices)),
        outputs=(result,),
        attributes=(integer_attribute("axis", 0),),
    )


def _part(tensor: str, number: int) -> str:
    return f"{_PREFIX}{tensor}/{number}"


def _rows_of(tensor: str, result: str) -> Operation:
    attributes = (integer_attribute("start", 0), integer_attribute("end", 1))
    return Operation(operator="Shape", inputs=(tensor,), outputs=(result,), attributes=attributes)


def _computed(operator: str, left: str, right: str, result: str) -> Operation:
    return Operation(operator=operator, inputs=(left, right), outputs=(result,))
