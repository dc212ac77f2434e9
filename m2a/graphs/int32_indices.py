"""Graph rewrite: gather with the int32 rows themselves, not with an int64 copy of them.

    Gather(x, Cast<int64>(rows: int32))  →  Gather(x, rows)

The exporter widens every index to int64. ONNX's Gather takes int32 as well, and both give the
same elements; the copy costs a pass over the neighbour tables, the largest integer tensors there
are, and TensorRT would carry twice the bytes.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto


def gather_with_int32(model: onnx.ModelProto) -> int:
    """Removes casts from int32 to int64 whose only readers are the indices of Gather nodes.

    Args:
        model: changed in place. A cast is left alone, and its reason is `refusal`'s, where
            something other than a Gather's index reads it or its input is not int32.

    Returns:
        The number of casts removed.
    """
    removed = []
    for cast in [node for node in model.graph.node if node.op_type == "Cast"]:
        if refusal(model, cast) is not None:
            continue
        for node in model.graph.node:
            if node.op_type == "Gather" and node.input[1] == cast.output[0]:
                node.input[1] = cast.input[0]
        removed.append(cast)
    for cast in removed:
        model.graph.node.remove(cast)
    return len(removed)


def refusal(model: onnx.ModelProto, cast: onnx.NodeProto) -> str | None:
    """Returns why a Cast node cannot be removed, or None where it can."""
    target = next(attribute.i for attribute in cast.attribute if attribute.name == "to")
    if target != TensorProto.INT64:
        return f"{cast.name} does not cast to int64"
    if cast.output[0] in {value.name for value in model.graph.output}:
        return f"{cast.name} feeds an output of the graph"
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name == cast.output[0] and (node.op_type, position) != ("Gather", 1):
                return f"{cast.name} is read by {node.op_type} {node.name}, not as a Gather's index"
    inferred = onnx.shape_inference.infer_shapes(model)
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in [*inferred.graph.input, *inferred.graph.value_info]
    }
    if types.get(cast.input[0]) != TensorProto.INT32:
        return f"{cast.name} does not read int32"
    return None
