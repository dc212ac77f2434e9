"""A graph that is one operation, to time it by itself."""

from __future__ import annotations

from m2a.extras import needing_extra


def operation_graph(kind: str, *, purpose: str) -> bytes:
    """Writes the graph c = kind(a, b), of any size.

    Args:
        kind: `MatMul` of f32 [M, K] and [K, N]; or `Gather` of rows of f32 [M, K] by int32 [R].
        purpose: what it is for, to those who lack the package.

    Returns:
        The serialised model.

    Raises:
        MissingDependencyError: the package `onnx`, which writes the graph, is not installed.
    """
    with needing_extra("bench", only=["onnx"], purpose=purpose):
        from onnx import TensorProto, checker, helper

    second = TensorProto.INT32 if kind == "Gather" else TensorProto.FLOAT
    shape = ["R"] if kind == "Gather" else ["K", "N"]
    graph = helper.make_graph(
        [helper.make_node(kind, ["a", "b"], ["c"])],
        kind.lower(),
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, ["M", "K"]),
            helper.make_tensor_value_info("b", second, shape),
        ],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [None, None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    checker.check_model(model)
    serialised: bytes = model.SerializeToString()
    return serialised
