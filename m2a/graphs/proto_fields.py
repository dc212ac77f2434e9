"""Field numbers of `onnx.proto`, a message a class: what of a graph is read without `onnx`."""

from __future__ import annotations

__all__ = [
    "Attribute",
    "Graph",
    "Model",
    "Node",
    "Opset",
    "Tensor",
    "Type",
    "Value",
]


class Model:
    """`ModelProto`."""

    IR_VERSION, GRAPH, OPSET_IMPORT, TRAINING_INFO, FUNCTIONS = 1, 7, 8, 20, 25


class Opset:
    """`OperatorSetIdProto`."""

    DOMAIN, VERSION = 1, 2


class Graph:
    """`GraphProto`."""

    NODE, INITIALIZER, INPUT, OUTPUT, SPARSE_INITIALIZER = 1, 5, 11, 12, 15


class Node:
    """`NodeProto`."""

    INPUT, OUTPUT, NAME, OP_TYPE, ATTRIBUTE, DOMAIN = 1, 2, 3, 4, 5, 7


class Attribute:
    """`AttributeProto`, and its number of the type of an integer."""

    NAME, INTEGER, T, G, TENSORS, GRAPHS = 1, 3, 5, 6, 10, 11
    TYPE, SPARSE_TENSOR, SPARSE_TENSORS = 20, 22, 23
    TYPE_INT = 2


class Tensor:
    """`TensorProto`, and its number of the type int64."""

    DIMS, DATA_TYPE, NAME, RAW_DATA, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 8, 9, 13, 14
    SEGMENT, FLOATS, INT32S, STRINGS, INT64S, DOUBLES, UINT64S = 3, 4, 5, 6, 7, 10, 11
    TYPE_INT64 = 7


class Value:
    """`ValueInfoProto`."""

    NAME, TYPE = 1, 2


class Type:
    """`TypeProto`, and what of its tensor is read."""

    TENSOR = 1
    ELEMENT, SHAPE = 1, 2
    DIMENSION = 1
    SIZE, PARAMETER = 1, 2
