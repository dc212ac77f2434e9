"""engine.json: read without trust, and what it says against running engines here."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2a.engines.machine import Machine
from m2a.engines.sidecar import (
    SIDECAR,
    BuiltGraph,
    Sidecar,
    _parse,
    describe_precision,
    precision_as_built,
    read_engine,
    read_sidecar,
    reasons_against,
)
from m2a.errors import EngineError
from m2a.runtime.bundle import open_bundle
from m2a.runtime.json_fields import JsonFields

CONTENT = {"mask": b"the mask engine", "restore": b"the restoration engine"}


def built(name, graph_sha256="0" * 64):
    return BuiltGraph(
        path=f"{name}.engine",
        sha256=hashlib.sha256(CONTENT[name]).hexdigest(),
        graph_sha256=graph_sha256,
        bytes=len(CONTENT[name]),
        seconds=1.5,
        profiles={"small": {"H": (32, 64, 128)}},
        layer_types={"MATRIX_MULTIPLY": {"HALF": 3}},
    )


SIDECAR_OF_AN_A2000 = Sidecar(
    flavour="rtx",
    version="1.7.1",
    precision="fp16",
    precision_source="network",
    compute_capability="8.6",
    gpu=None,
    os="linux",
    arch="x86_64",
    settings={"strongly_typed": True},
    versions={"m2a": "0.1"},
    rebuild=("m2a", "build-engine", "--fp16", "--bundle", "my bundle", "--target", "sm86"),
    sources=dict.fromkeys(CONTENT, "1" * 64),
    graphs={name: built(name) for name in CONTENT},
)

ITS_MACHINE = Machine(
    os="linux",
    arch="x86_64",
    tensorrt={"rtx": "1.7.1", "trt": "10.3.0"},
    gpus=(("8.9", "RTX 4090"), ("8.6", "RTX A2000")),
)


@pytest.fixture
def folder(tmp_path):
    for name, content in CONTENT.items():
        (tmp_path / f"{name}.engine").write_bytes(content)
    (tmp_path / SIDECAR).write_bytes(SIDECAR_OF_AN_A2000.serialise())
    return tmp_path


def test_it_is_read_as_it_was_written(folder):
    for place in (folder, folder / SIDECAR, folder / "mask.engine"):
        assert read_sidecar(place) == SIDECAR_OF_AN_A2000
    assert read_engine(folder, SIDECAR_OF_AN_A2000, "mask") == CONTENT["mask"]


def test_nothing_is_known_against_its_own_machine():
    assert reasons_against(SIDECAR_OF_AN_A2000, ITS_MACHINE) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"arch": "aarch64"}, "built for linux on x86_64, this is linux on aarch64"),
        ({"os": "windows"}, "this is windows on x86_64"),
        ({"tensorrt": {"trt": "10.3.0"}}, "TensorRT for RTX 1.7.1, which is not installed"),
        ({"tensorrt": {"rtx": "1.8.0"}}, "by TensorRT for RTX 1.7.1, 1.8.0 is installed"),
        ({"gpus": ()}, "a GPU of compute capability 8.6: there is none here"),
        (
            {"gpus": (), "fault": "cuInit returned 999"},
            r"not answer \(cuInit returned 999; see",
        ),
        ({"gpus": (("8.9", "RTX 4090"),)}, r"capability 8.6, found RTX 4090 \(8.9\)"),
    ],
)
def test_another_machine_is_told_in_plain_words(changes, reason):
    (found,) = reasons_against(SIDECAR_OF_AN_A2000, replace(ITS_MACHINE, **changes))
    assert re.search(reason, found)


def test_every_reason_is_told_at_once():
    stranger = Machine(os="windows", arch="arm64", tensorrt={}, gpus=())
    assert len(reasons_against(SIDECAR_OF_AN_A2000, stranger)) == 3


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_engines_of_changed_graphs_are_stale(tiny_bundle, precision):
    """Also where the bundle holds no FP16 graphs: they are made from the FP32 ones."""
    bundle = open_bundle(tiny_bundle)
    hashes = {name: bundle.graphs["fp32"][name].sha256 for name in CONTENT}
    fresh = replace(
        SIDECAR_OF_AN_A2000,
        precision=precision,
        sources=hashes,
        graphs={name: built(name, hashes[name]) for name in CONTENT},
    )
    assert reasons_against(fresh, ITS_MACHINE, bundle) == []
    stale = replace(fresh, sources={**hashes, "mask": "0" * 64})
    (reason,) = reasons_against(stale, ITS_MACHINE, bundle)
    assert reason == "the bundle's graphs changed since: mask"


@pytest.mark.parametrize(
    ("types", "precision"),
    [
        ({"CONVOLUTION": {"FLOAT": 16}}, "fp32"),
        ({"CONVOLUTION": {"HALF": 16}}, "fp16"),
        ({"MATRIX_MULTIPLY": {"HALF": 28, "FLOAT": 2}}, "fp16"),
        ({"MATRIX_MULTIPLY": {"HALF": 2, "FLOAT": 28}}, "fp32"),
        ({"MATRIX_MULTIPLY": {"FLOAT": 30}, "QUANTIZE": {"INT8": 30}}, "int8"),
        ({"CAST": {"HALF": 30}, "MATRIX_MULTIPLY": {"FLOAT": 1}}, "fp32"),
    ],
)
def test_the_precision_is_that_of_the_products(types, precision):
    assert precision_as_built(types) == precision


def test_the_precision_is_told_with_its_counts():
    words = describe_precision(SIDECAR_OF_AN_A2000)
    assert words == "fp16 (products of the parsed network: 6 in HALF)"


def test_a_changed_byte_is_refused_with_the_command_that_rebuilds_it(folder):
    (folder / "restore.engine").write_bytes(b"the restoration Engine")
    with pytest.raises(EngineError, match=r"not the engine that was built.*'my bundle' --target"):
        read_engine(folder, SIDECAR_OF_AN_A2000, "restore")
    (folder / "restore.engine").unlink()
    with pytest.raises(EngineError, match=r"cannot be read \(No such file.*m2a build-engine"):
        read_engine(folder, SIDECAR_OF_AN_A2000, "restore")


def test_without_its_description_nothing_is_known(folder):
    (folder / SIDECAR).unlink()
    with pytest.raises(EngineError, match="nothing is known of the engine"):
        read_sidecar(folder / "mask.engine")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), 2),
        (("precision",), "fp8"),
        (("version",), None),
        (("gpu",), 3),
        (("rebuild",), ["m2a", "build-engine", 3]),
        (("rebuild",), ["rm", "-rf", "/home"]),
        (("sources",), {"mask": "0"}),
        (("versions",), {"m2a": 1}),
        (("graphs", "mask", "layer_types"), {"CONVOLUTION": 3}),
        (("graphs", "mask", "layer_types"), {"CONVOLUTION": {"HALF": "many"}}),
        (("graphs", "mask", "seconds"), 10**400),
        (("graphs",), {"mask": {}}),
        (("graphs", "mask", "path"), "../mask.engine"),
        (("graphs", "mask", "path"), "/etc/mask.engine"),
        (("graphs", "mask", "path"), "C:mask.engine"),
        (("graphs", "mask", "path"), "engine.json"),
        (("graphs", "mask", "bytes"), True),
        (("graphs", "mask", "profiles"), {"small": {"H": [64, 32, 128]}}),
        (("graphs", "mask", "profiles"), {"small": {"H": [1, 2]}}),
        (("graphs", "mask", "profiles"), {"small": {"H": [1, 2, 3.5]}}),
    ],
)
def test_what_does_not_fit_is_refused(folder, path, value):
    content = json.loads((folder / SIDECAR).read_text())
    entry = content
    for key in path[:-1]:
        entry = entry[key]
    entry[path[-1]] = value
    (folder / SIDECAR).write_text(json.dumps(content))
    with pytest.raises(EngineError, match="not a description of engines that this version reads"):
        read_sidecar(folder)


@pytest.mark.parametrize("content", ["", "[" * 100_000, "{", "\ud800".encode("utf-8", "ignore")])
def test_what_is_not_json_is_refused(folder, content):
    (folder / SIDECAR).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(EngineError, match="is not JSON"):
        read_sidecar(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(path=st.lists(st.sampled_from([*json.loads(SIDECAR_OF_AN_A2000.serialise())])), value=JSON)
def test_any_value_anywhere_is_read_or_refused(path, value):
    content = json.loads(SIDECAR_OF_AN_A2000.serialise())
    for key in path:
        content[key] = value
    try:
        found = _parse(JsonFields(content, refuse=EngineError))
    except EngineError:
        return
    found.serialise()
    assert describe_precision(found)
    assert found.rebuild_command.startswith("m2a build-engine")
    assert isinstance(reasons_against(found, ITS_MACHINE), list)
