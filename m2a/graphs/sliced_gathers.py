"""Graph rewrite for a CPU: the blocks of the restorer in slices of sites that stay in its cache.

    f(Gather(x, rows))  →  Concat(f(Gather(x, rows_1)), …, f(Gather(x, rows_K)))

A block gathers the nine neighbours of every site and multiplies them. What it gathers, nine times
the features, is the largest tensor of the graph: hundreds of megabytes that are written once to be
read once. From the gather to the projection everything works row by row, so the sites may be taken
in K slices, with the same results; a slice is still in the cache when it is read, and the gathered
neighbours take the memory of one slice.

Slice k ends at row ⌊(k + 1) · N / K⌋, which the graph computes from N. Shapes inside it then depend
on data, which the contract forbids and TensorRT would not like: so this is no graph of a bundle. It
is made where a graph is opened on a CPU, from one that passed the check.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from m2a.graphs.operations import Network, Operation, integer_attribute

__all__ = ["SLICES", "Block", "find_blocks", "slice_gathers"]

SLICES: Mapping[int, int] = {0: 24, 1: 12, 2: 6}
"""Level → K. At 10 % of three megapixels a slice of width 16 gathers some 7 MB. More slices gain no
time and take longer to open; what level 3 gathers is small."""

NEIGHBOURS = 9

_TABLE = re.compile(r"neighbours_([0-3])")

_ROW_BY_ROW = ("Reshape", "MatMul", "Add", "Split", "Mul", "MatMul", "Add")
"""What follows the gather of a block: neighbours side by side, convolution, gate, projection."""

_PREFIX = "sliced/"


@dataclass(frozen=True, kw_only=True)
class Block:
    """A gather of neighbours, and what is computed from it row by row.

    Attributes:
        level: of its sites.
        table: the graph's input with the rows of the neighbours, [N, 9].
        rows: the same, flat.
        operations: its nodes' places in the graph: the gather, then as far as `refusal` is None.
        refusal: why it cannot be sliced; None where it can.
    """

    level: int
    table: str
    rows: str
    operations: tuple[int, ...]
    refusal: str | None


def slice_gathers(graph: bytes, slices: Mapping[int, int] = SLICES) -> bytes:
    """Rewrites the blocks of a restoration graph.

    Args:
        graph: a serialised model that passed `m2a.graphs.contract.check_serialised`.
        slices: level → number of slices, at least 1; a level that is not there stays as it is.

    Returns:
        The serialised model. A block with a `refusal` stays as it is, and a graph without blocks,
        such as the mask graph, is returned itself.

    Raises:
        WireError: the bytes are no model.
    """
    network = Network(graph)
    blocks = [
        block
        for block in find_blocks(network)
        if block.refusal is None and slices.get(block.level, 1) > 1
    ]
    if not blocks:
        return graph
    last = {block.operations[-1]: block for block in blocks}
    replaced = {place for block in blocks for place in block.operations}
    cuts: dict[str, _Cut] = {}
    operations: list[Operation] = []
    for place, operation in enumerate(network.operations):
        if place in last:
            block = last[place]
            if block.rows not in cuts:
                cuts[block.rows] = _Cut(block, slices[block.level])
                operations += cuts[block.rows].operations()
            chain = [network.operations[place] for place in block.operations]
            operations += _sliced(chain, block.rows, cuts[block.rows])
        elif place not in replaced:
            operations.append(operation)
    constants = {name: values for cut in cuts.values() for name, values in cut.constants().items()}
    return network.with_operations(operations, constants)


def find_blocks(network: Network) -> Iterator[Block]:
    """Finds the gathers of neighbours, with the reason where one cannot be sliced."""
    readers: dict[str, list[int]] = defaultdict(list)
    writer: dict[str, Operation] = {}
    for place, operation in enumerate(network.operations):
        for name in operation.inputs:
            readers[name].append(place)
        for name in operation.outputs:
            writer[name] = operation
    for place, gather in enumerate(network.operations):
        if gather.operator != "Gather":
            continue
        flat = writer.get(gather.inputs[1])
        table = _TABLE.fullmatch(flat.inputs[0]) if flat and flat.operator == "Reshape" else None
        if table is None:
            continue
        chain, refusal = _chain(network, readers, place)
        yield Block(
            level=int(table[1]),
            table=table[0],
            rows=gather.inputs[1],
            operations=tuple(chain),
            refusal=refusal,
        )


def _chain(
    network: Network, readers: Mapping[str, list[int]], gather: int
) -> tuple[list[int], str | None]:
    """The operations from a gather on that work row by row, and why they do not reach the end."""
    chain, made = [gather], set(network.operations[gather].outputs)
    if network.operations[gather].integer("axis") != 0:
        return chain, "Gather takes columns, expected rows"
    for operator in _ROW_BY_ROW:
        results = network.operations[chain[-1]].outputs
        behind = {place for name in results for place in readers[name]}
        kept = sorted(made & network.outputs)
        if kept:
            return chain, f"{kept[0]} is an output of the graph"
        if len(behind) != 1:
            return chain, f"{results[0]} has {len(behind)} readers"
        (place,) = behind
        found = network.operations[place]
        if found.operator != operator:
            return chain, f"{found.operator} follows, expected {operator}"
        strange = [n for n in found.inputs if n not in made and n not in network.weights]
        if strange:
            return chain, f"{found.operator} reads {strange[0]}, which is not computed in the block"
        if operator == "Reshape" and (network.integers(found.inputs[1]) or (0,))[0] != -1:
            return chain, "Reshape counts rows, expected as many as there are"
        if operator == "Split" and found.integer("axis") not in (1, -1):
            return chain, "Split cuts rows, expected columns"
        chain.append(place)
        made |= set(found.outputs)
    return chain, None


class _Cut:
    """Cutting the flat rows of a table into slices of whole sites."""

    def __init__(self, block: Block, slices: int) -> None:
        self._block, self._slices = block, slices
        self._name = f"{_PREFIX}{block.table}"
        self.parts = [f"{self._name}/rows_{part}" for part in range(slices)]

    def constants(self) -> dict[str, list[int]]:
        return {
            f"{self._name}/lower": list(range(self._slices)),
            f"{self._name}/upper": list(range(1, self._slices + 1)),
            f"{self._name}/slices": [self._slices],
            f"{self._name}/neighbours": [NEIGHBOURS],
        }

    def operations(self) -> list[Operation]:
        name = self._name

        def computed(operator: str, left: str, right: str, result: str) -> Operation:
            inputs = (f"{name}/{left}", f"{name}/{right}")
            return Operation(operator=operator, inputs=inputs, outputs=(f"{name}/{result}",))

        first = (integer_attribute("start", 0), integer_attribute("end", 1))
        return [
            Operation(
                operator="Shape",
                inputs=(self._block.table,),
                outputs=(f"{name}/sites",),
                attributes=first,
            ),
            computed("Mul", "sites", "upper", "upper_sites"),
            computed("Div", "upper_sites", "slices", "end"),
            computed("Mul", "sites", "lower", "lower_sites"),
            computed("Div", "lower_sites", "slices", "begin"),
            computed("Sub", "end", "begin", "sizes"),
            computed("Mul", "sizes", "neighbours", "lengths"),
            Operation(
                operator="Split",
                inputs=(self._block.rows, f"{name}/lengths"),
                outputs=tuple(self.parts),
                attributes=(integer_attribute("axis", 0),),
            ),
        ]


def _sliced(chain: list[Operation], rows: str, cut: _Cut) -> Iterator[Operation]:
    """A block's operations on each part of its rows, and the results joined."""
    made = [name for operation in chain for name in operation.outputs]
    result = chain[-1].outputs[0]
    results = []
    for number, part in enumerate(cut.parts):
        names = {name: f"{_PREFIX}{name}/{number}" for name in made} | {rows: part}
        for operation in chain:
            yield operation.renamed(names)
        results.append(names[result])
    yield Operation(
        operator="Concat",
        inputs=tuple(results),
        outputs=(result,),
        attributes=(integer_attribute("axis", 0),),
    )
