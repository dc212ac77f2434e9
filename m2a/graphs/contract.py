"""The contract of the exported graphs (DESIGN section 4), as a check.

A graph that passes can be fed by `m2a.runtime` and is taken by ONNX Runtime and TensorRT: its
inputs and outputs have the stated names, types and shapes, its operators stand in an explicit
list, its weights lie inside the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import TensorProto

from m2a.errors import ContractError

OPSET = 20
IR_VERSION = 10

LEVELS = 4

MASK_OPERATORS = frozenset({"Add", "Conv", "DepthToSpace", "Relu", "Sigmoid", "Sub"})

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
    *("And", "Clip", "Conv", "DepthToSpace", "Pad", "Range", "ReduceMean", "Reciprocal"),
    *("Shape", "Sqrt", "Squeeze", "Transpose"),
}
"""Of the dense restorer, which only benchmarks run."""

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
    "dense": Contract(
        inputs=(Port(name="image", dtype="float32", shape=(1, 3, "H", "W")),),
        outputs=(
            Port(name="residual", dtype="float32", shape=(1, 3, "H", "W")),
            Port(name="motion", dtype="float32", shape=(1, 4, "h", "w")),
        ),
        operators=DENSE_OPERATORS,
    ),
}
"""Graph name → its contract."""

_DTYPES: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.INT32: "int32"}


def check_contract(model: onnx.ModelProto, graph: str, *, precision: str = "fp32") -> None:
    """Checks a model against the contract of one of the graphs.

    Args:
        model: the model, with its weights.
        graph: a key of `CONTRACTS`.
        precision: a key of `TYPED_OPERATORS`; the ports are the same in all of them.

    Raises:
        ContractError: every breach, in one message.
    """
    contract = CONTRACTS[graph]
    breaches = [
        *_version_breaches(model),
        *_operator_breaches(model, contract.operators | TYPED_OPERATORS[precision]),
        *_port_breaches("input", list(model.graph.input), contract.inputs),
        *_port_breaches("output", list(model.graph.output), contract.outputs),
        *_weight_breaches(model),
    ]
    if breaches:
        raise ContractError(f"the graph {graph!r} breaks its contract: {'; '.join(breaches)}")


def _version_breaches(model: onnx.ModelProto) -> list[str]:
    breaches = []
    if model.ir_version != IR_VERSION:
        breaches.append(f"IR version {model.ir_version}, expected {IR_VERSION}")
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.pop("", None) != OPSET or opsets:
        found = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
        breaches.append(f"operator sets {found}, expected ai.onnx {OPSET} alone")
    if model.functions:
        breaches.append(f"{len(model.functions)} local functions, expected none")
    return breaches


def _operator_breaches(model: onnx.ModelProto, allowed: frozenset[str]) -> list[str]:
    used = {
        node.op_type if not node.domain else f"{node.domain}.{node.op_type}"
        for node in model.graph.node
    }
    surplus = sorted(used - allowed)
    return [f"operators {surplus}, which are not in the list"] if surplus else []


def _port_breaches(
    kind: str, found: list[onnx.ValueInfoProto], expected: tuple[Port, ...]
) -> list[str]:
    names = [value.name for value in found]
    if names != [port.name for port in expected]:
        return [f"{kind}s {names}, expected {[port.name for port in expected]}"]
    breaches = []
    for value, port in zip(found, expected, strict=True):
        tensor = value.type.tensor_type
        dtype = _DTYPES.get(tensor.elem_type, f"type {tensor.elem_type}")
        shape = tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param
            for dim in tensor.shape.dim
        )
        if dtype != port.dtype or shape != port.shape:
            breaches.append(
                f"{kind} {port.name} is {dtype}{list(shape)}, "
                f"expected {port.dtype}{list(port.shape)}"
            )
    return breaches


def _weight_breaches(model: onnx.ModelProto) -> list[str]:
    outside = [
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    ]
    return [f"weights outside the file: {outside}"] if outside else []
