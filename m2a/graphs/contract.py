"""The contract of the exported graphs (DESIGN section 4), as a check.

A graph that passes can be fed by `m2a.runtime` and is taken by ONNX Runtime and TensorRT: its
inputs and outputs have the stated names, types and shapes, its operators stand in an explicit
list, its weights lie inside the file.

The check reads the serialised graph itself, so that it needs no `onnx` where a bundle is run, and
sees the very bytes that ONNX Runtime and TensorRT are given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from m2a.errors import ContractError
from m2a.graphs import proto_fields as fields
from m2a.graphs.wire import Message, WireError

if TYPE_CHECKING:
    import onnx

OPSET = 20
IR_VERSION = 10

LEVELS = 4

MASK_OPERATORS = frozenset(
    {"Add", "Concat", "Conv", "DepthToSpace", "Mul", "Relu", "Sigmoid", "Slice", "Sub"}
)
"""Concat, Mul and Slice where the mask is predicted from the mirror image too."""

RESTORE_OPERATORS = frozenset(
    {
        "Add",
        "Cast",
        "Concat",
        "Div",
        "Equal",
        "Floor",
        "Gather",
        "Gemm",
        "Greater",
        "GreaterOrEqual",
        "LayerNormalization",
        "Less",
        "LessOrEqual",
        "MatMul",
        "Max",
        "Min",
        "Mul",
        "Reshape",
        "Slice",
        "Split",
        "Sub",
        "Tanh",
        "Unsqueeze",
        "Where",
    }
)
"""No NonZero, no GatherND, no custom operator, nothing whose output shape depends on data."""

DENSE_OPERATORS = (RESTORE_OPERATORS - {"MatMul", "Gemm"}) | {
    *("And", "Clip", "Conv", "DepthToSpace", "MaxPool", "Range", "ReduceMean", "Reciprocal"),
    *("Shape", "Sqrt", "Squeeze", "Transpose"),
}
"""Of the dense restorer."""

TYPED_OPERATORS = {
    "fp32": frozenset[str](),
    "fp16": frozenset({"Cast"}),
    "int8": frozenset({"QuantizeLinear", "DequantizeLinear"}),
}
"""Precision → the operators that state it, allowed in that variant of either graph."""

Shape = tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class Port:
    """One input or output of a graph.

    Attributes:
        name: its name.
        dtype: `float32` or `int32`.
        shape: a number where the dimension is fixed, a name where it is dynamic. Dimensions of
            one name are equal.
    """

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What one graph must look like."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: frozenset[str]


def _restore_inputs() -> tuple[Port, ...]:
    neighbours = [
        Port(name=f"neighbours_{level}", dtype="int32", shape=(f"N{level}", 9))
        for level in range(LEVELS)
    ]
    children = [
        Port(name=f"children_{level}", dtype="int32", shape=(f"N{level + 1}", 4))
        for level in range(LEVELS - 1)
    ]
    parents = [
        Port(name=f"parents_{level}", dtype="int32", shape=(f"N{level}",))
        for level in range(LEVELS - 1)
    ]
    return (
        Port(name="patches", dtype="float32", shape=("N0", 75)),
        *neighbours,
        *children,
        *parents,
        Port(name="site_map", dtype="int32", shape=("P2",)),
        Port(name="site_xy", dtype="int32", shape=("N2", 2)),
        Port(name="grid_size", dtype="int32", shape=(2,)),
    )


CONTRACTS = {
    "mask": Contract(
        inputs=(Port(name="image", dtype="float32", shape=(1, 3, "H", "W")),),
        outputs=(Port(name="mask", dtype="float32", shape=(1, 1, "H", "W")),),
        operators=MASK_OPERATORS,
    ),
    "restore": Contract(
        inputs=_restore_inputs(),
        outputs=(
            Port(name="residual", dtype="float32", shape=("N0", 3)),
            Port(name="motion", dtype="float32", shape=("N2", 4)),
        ),
        operators=RESTORE_OPERATORS,
    ),
}
"""Deployed graph → its contract."""

ALL_CONTRACTS = {
    **CONTRACTS,
    "dense": Contract(
        inputs=(
            Port(name="image", dtype="float32", shape=(1, 3, "H+4", "W+4")),
            Port(name="mask", dtype="float32", shape=(1, 1, "H", "W")),
        ),
        outputs=(
            Port(name="residual", dtype="float32", shape=(1, 3, "H", "W")),
            Port(name="motion", dtype="float32", shape=(1, 4, "h", "w")),
        ),
        operators=DENSE_OPERATORS,
    ),
}
"""And that of the dense restorer, for masks that leave out next to nothing."""

_DTYPES = {1: "float32", 6: "int32"}
"""ONNX's number of a type → its name."""


def check_contract(model: onnx.ModelProto, graph: str, *, precision: str = "fp32") -> None:
    """Checks a model against the contract of one of the graphs.

    Args:
        model: the model, with its weights.
        graph: a key of `ALL_CONTRACTS`.
        precision: a key of `TYPED_OPERATORS`; the ports are the same in all of them.

    Raises:
        ContractError: every breach, in one message.
    """
    check_serialised(model.SerializeToString(), graph, precision=precision)


def check_serialised(content: bytes, graph: str, *, precision: str = "fp32") -> None:
    """As `check_contract`, on the bytes of an ONNX file, which may be anything.

    Raises:
        ContractError: every breach, in one message; or the bytes are no ONNX model.
    """
    contract = ALL_CONTRACTS[graph]
    try:
        model = Message(content)
        network = model.message(fields.Model.GRAPH)
        breaches = [
            *_version_breaches(model),
            *_operator_breaches(network, contract.operators | TYPED_OPERATORS[precision]),
            *_port_breaches("input", network, fields.Graph.INPUT, contract.inputs),
            *_port_breaches("output", network, fields.Graph.OUTPUT, contract.outputs),
            *_weight_breaches(network),
        ]
    except WireError as error:
        raise ContractError(f"the graph {graph!r} is not an ONNX model: {error}") from error
    if breaches:
        raise ContractError(f"the graph {graph!r} breaks its contract: {'; '.join(breaches)}")


def _version_breaches(model: Message) -> list[str]:
    breaches = []
    version = model.number(fields.Model.IR_VERSION)
    if version != IR_VERSION:
        breaches.append(f"IR version {version}, expected {IR_VERSION}")
    opsets = [
        (entry.text(fields.Opset.DOMAIN), entry.number(fields.Opset.VERSION))
        for entry in model.messages(fields.Model.OPSET_IMPORT)
    ]
    if opsets != [("", OPSET)]:
        found = {domain or "ai.onnx": version for domain, version in opsets}
        breaches.append(f"operator sets {found}, expected ai.onnx {OPSET} alone")
    functions = len(list(model.messages(fields.Model.FUNCTIONS)))
    if functions:
        breaches.append(f"{functions} local functions, expected none")
    if fields.Model.TRAINING_INFO in model:
        breaches.append("graphs for training, expected none")
    return breaches


def _operator_breaches(network: Message, allowed: frozenset[str]) -> list[str]:
    used: set[str] = set()
    nested: set[str] = set()
    unnamed: set[str] = set()
    inner = (
        fields.Attribute.T,
        fields.Attribute.G,
        fields.Attribute.TENSORS,
        fields.Attribute.GRAPHS,
        fields.Attribute.SPARSE_TENSOR,
        fields.Attribute.SPARSE_TENSORS,
    )
    for node in network.messages(fields.Graph.NODE):
        domain, operator = node.text(fields.Node.DOMAIN), node.text(fields.Node.OP_TYPE)
        name = f"{domain}.{operator}" if domain else operator
        used.add(name)
        if any(f in attribute for attribute in node.messages(fields.Node.ATTRIBUTE) for f in inner):
            nested.add(name)
        outputs = node.texts(fields.Node.OUTPUT)
        if not outputs or "" in outputs:
            unnamed.add(name)
    breaches = []
    if used - allowed:
        breaches.append(f"operators {sorted(used - allowed)}, which are not in the list")
    if nested:
        breaches.append(f"graphs or tensors inside attributes of {sorted(nested)}, expected none")
    if unnamed:
        # ONNX Runtime's Split writes to an output without a name, which is a segmentation fault.
        breaches.append(f"outputs without a name of {sorted(unnamed)}, expected one or more, named")
    return breaches


def _port_breaches(
    kind: str, network: Message, field: int, expected: tuple[Port, ...]
) -> list[str]:
    found = list(network.messages(field))
    names = [value.text(fields.Value.NAME) for value in found]
    if names != [port.name for port in expected]:
        return [f"{kind}s {names}, expected {[port.name for port in expected]}"]
    breaches = []
    for value, port in zip(found, expected, strict=True):
        tensor = value.message(fields.Value.TYPE).message(fields.Type.TENSOR)
        element = tensor.number(fields.Type.ELEMENT)
        dtype = _DTYPES.get(element, f"type {element}")
        shape = tuple(
            dimension.number(fields.Type.SIZE)
            if fields.Type.SIZE in dimension
            else dimension.text(fields.Type.PARAMETER)
            for dimension in tensor.message(fields.Type.SHAPE).messages(fields.Type.DIMENSION)
        )
        if dtype != port.dtype or shape != port.shape:
            breaches.append(
                f"{kind} {port.name} is {dtype}{list(shape)}, "
                f"expected {port.dtype}{list(port.shape)}"
            )
    return breaches


def _weight_breaches(network: Message) -> list[str]:
    breaches = []
    outside = [
        tensor.text(fields.Tensor.NAME)
        for tensor in network.messages(fields.Graph.INITIALIZER)
        if tensor.number(fields.Tensor.DATA_LOCATION) or fields.Tensor.EXTERNAL_DATA in tensor
    ]
    if outside:
        breaches.append(f"weights outside the file: {outside}")
    if fields.Graph.SPARSE_INITIALIZER in network:
        breaches.append("sparse weights, expected none")
    return breaches
