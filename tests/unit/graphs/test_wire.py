"""Protocol buffers read without a schema: judged by onnx's own parser, and by crafted bytes."""

from __future__ import annotations

import pytest
from onnx import helper

from m2a.graphs import wire
from m2a.graphs.wire import Message, WireError


def test_a_message_reads_as_onnx_reads_it(tiny_graphs):
    model = tiny_graphs["restore"]
    read = Message(model.SerializeToString())
    assert read.number(1) == model.ir_version
    assert read.text(2) == model.producer_name
    nodes = list(read.message(7).messages(1))
    assert [node.text(4) for node in nodes] == [node.op_type for node in model.graph.node]


def test_what_is_absent_is_zero_or_empty():
    empty = Message(b"")
    assert (empty.number(1), empty.text(2), list(empty.messages(3))) == (0, "", [])
    assert 1 not in empty
    assert 1 not in empty.message(7)


def test_a_field_that_stands_twice_counts_as_in_protocol_buffers():
    """Else a second graph, joined to the first by the runtime's parser, would pass unseen."""
    first = helper.make_model(helper.make_graph([helper.make_node("Add", [], [])], "g", [], []))
    second = helper.make_model(helper.make_graph([helper.make_node("If", [], [])], "g", [], []))
    joined = first.SerializeToString() + second.SerializeToString()
    merged = type(first).FromString(joined)
    found = [node.text(4) for node in Message(joined).message(7).messages(1)]
    assert found == [node.op_type for node in merged.graph.node] == ["Add", "If"]
    assert Message(b"\x08\x05\x08\x09").number(1) == 9
    assert Message(b"\x12\x01a\x12\x01b").text(2) == "b"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x0a\x05ab", "5 bytes at byte 2 of 4"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "bytes at byte"),
        (b"\x08", "cut off"),
        (b"\x08" + b"\xff" * 11, "more than ten bytes"),
        (b"\x09abc", "beyond the end"),
        (b"\x0dab", "beyond the end"),
        (b"\x0b", "unknown kind 3"),
        (b"\x00\x01", "without a number"),
        (b"\x8a\x80\x80\x80\x10\x01a", "more than 29 bits at byte 0"),
        (b"\x8a\x80\x80\x80\x80\x80\x80\x80\x80\x01\x01a", "more than 29 bits at byte 0"),
        (b"\x8a\x80\x80\x80\x80\x00\x01a", "more than 29 bits at byte 0"),
    ],
)
def test_what_is_no_message_is_refused(data, words):
    with pytest.raises(WireError, match=words):
        Message(data)


def test_a_text_that_is_no_text_is_refused():
    with pytest.raises(WireError, match="not UTF-8"):
        Message(b"\x0a\x01\xff").text(1)


def test_the_number_of_fields_is_bounded(monkeypatch):
    monkeypatch.setattr(wire, "MAX_FIELDS", 10)
    Message(b"\x08\x01" * 10)
    with pytest.raises(WireError, match="more than 10 fields"):
        Message(b"\x08\x01" * 11)


def test_the_number_of_fields_is_bounded_over_all_messages(monkeypatch):
    """Else each of a million fields could be a message of a million fields."""
    monkeypatch.setattr(wire, "MAX_FIELDS", 10)
    inner = b"\x08\x01" * 3
    read = Message((b"\x0a" + bytes([len(inner)]) + inner) * 3)
    with pytest.raises(WireError, match="more than 10 fields"):
        list(read.messages(1))


def test_values_of_fixed_width_count_too(monkeypatch):
    monkeypatch.setattr(wire, "MAX_FIELDS", 10)
    with pytest.raises(WireError, match="more than 10 fields"):
        Message(b"\x0dabcd" * 11)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**32, 2**64 - 1])
def test_what_is_written_is_read_again(number):
    data = wire.written(1, number, 5) + wire.written(20, "ü", b"", b"x" * 200)
    read = Message(data)
    assert (read.number(1), read.texts(20)) == (5, ["ü", "", "x" * 200])
    assert Message(wire.written(1, number)).number(1) == number


def test_one_field_is_replaced_and_onnx_finds_the_others_as_they_were(tiny_graphs):
    model = tiny_graphs["restore"]
    (graph,) = Message(model.SerializeToString()).parts(7)
    kept = list(model.graph.node)[:3]
    nodes = [node.SerializeToString() for node in kept]
    found = type(model.graph).FromString(Message(graph).replaced(1, nodes))
    expected = type(model.graph)()
    expected.CopyFrom(model.graph)
    del expected.node[3:]
    assert found == expected
