"""What is fuzzed: each target takes any bytes and fails unless they are read or refused.

A target lets `M2AError` pass, which is how bad input is told, and nothing else; it looks at what
was read, so that a value that only breaks later is found too. atheris runs them without end
(`tests/fuzz/run.py`), hypothesis a few hundred times in the suite (`test_fuzz.py`).
"""

from __future__ import annotations

import copy
import functools
import io
import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from m2a.engines.machine import Machine
from m2a.engines.sidecar import SIDECAR, describe_precision, read_sidecar, reasons_against
from m2a.errors import M2AError, on_one_line
from m2a.graphs.contract import check_serialised
from m2a.runtime.bundle import MANIFEST, PACKAGED, open_bundle
from m2a.runtime.decoding import decode_photo
from m2a.runtime.encoding import encode_photo, suffix_of

MAX_PIXELS = 2**16
"""Small, so that an input takes milliseconds; the limit itself is what is tried."""


def image(data: bytes) -> None:
    """A picture is refused in one line, or what was read can be written and read again."""
    try:
        photo = decode_photo(data, origin="fuzz", max_pixels=MAX_PIXELS)
    except M2AError as error:
        _told(error)
        return
    height, width, _ = photo.pixels.shape
    assert height * width <= MAX_PIXELS
    suffix = suffix_of(photo.format)
    if suffix == ".avif":  # its encoder takes a hundred times as long as all else
        suffix = ".png"
    try:
        written = encode_photo(photo, suffix=suffix, origin="fuzz")
    except M2AError as error:
        _told(error)
        return
    again = decode_photo(written, origin="fuzz", max_pixels=MAX_PIXELS)
    if suffix in (".png", ".tif"):
        assert np.array_equal(again.pixels, photo.pixels)


def manifest(data: bytes) -> None:
    """A manifest is refused, or no file of the bundle that it names lies outside."""
    folder = _folder()
    (folder / MANIFEST).write_bytes(_document(data, (PACKAGED / MANIFEST).read_bytes()))
    outside = _outside(folder)
    try:
        bundle = open_bundle(folder)
    except M2AError as error:
        _told(error)
        return
    assert 0 < bundle.threshold < 1
    files = [file for graphs in bundle.graphs.values() for file in graphs.values()]
    for file in (*files, bundle.reference_file):
        assert (folder / file.path).resolve().is_relative_to(folder)
    for precision in bundle.precisions:
        with _refused():
            bundle.graph("mask", precision=precision)
    with _refused():
        bundle.reference()
    assert _outside(folder) == outside


def sidecar(data: bytes) -> None:
    """An `engine.json` is refused, or can be described, judged and written again."""
    folder = _folder()
    (folder / SIDECAR).write_bytes(_document(data, json.dumps(_ENGINE).encode()))
    outside = _outside(folder)
    try:
        found = read_sidecar(folder)
    except M2AError as error:
        _told(error)
        return
    on_one_line(describe_precision(found)).encode()
    on_one_line(found.rebuild_command).encode()
    for reason in reasons_against(found, Machine(os="linux", arch="x86_64", tensorrt={}, gpus=())):
        on_one_line(reason).encode()
    for built in found.graphs.values():
        assert (folder / built.path).parent == folder
    (folder / SIDECAR).write_bytes(found.serialise())
    assert read_sidecar(folder) == found
    assert _outside(folder) == outside


def graph(data: bytes) -> None:
    """A graph keeps the contract or is refused."""
    with _refused():
        check_serialised(data, "mask")


TARGETS = {target.__name__: target for target in (image, manifest, sidecar, graph)}


def seeds(target: str) -> list[bytes]:
    """Whole inputs from which the fuzzer begins."""
    if target == "image":
        return _pictures()
    if target == "manifest":
        return [(PACKAGED / MANIFEST).read_bytes(), b"", b"\0\1\2\3\4\5\6\7"]
    if target == "sidecar":
        return [json.dumps(_ENGINE).encode(), b"", b"\0\1\2\3\4\5\6\7"]
    return [(PACKAGED / "fp32" / "mask.onnx").read_bytes(), _small_graph()]


_ENGINE = {
    "schema": 1,
    "flavour": "rtx",
    "version": "1.7.1",
    "precision": "fp16",
    "precision_source": "network",
    "compute_capability": "8.6",
    "gpu": None,
    "os": "linux",
    "arch": "x86_64",
    "settings": {"strongly_typed": True},
    "versions": {"m2a": "0.1"},
    "rebuild": ["m2a", "build-engine", "--fp16"],
    "sources": {"mask": "1" * 64, "restore": "1" * 64},
    "graphs": {
        name: {
            "path": f"{name}.engine",
            "sha256": "0" * 64,
            "graph_sha256": "0" * 64,
            "bytes": 3,
            "seconds": 1.5,
            "profiles": {"small": {"H": [32, 64, 128]}},
            "layer_types": {"MATRIX_MULTIPLY": {"HALF": 3}},
        }
        for name in ("mask", "restore")
    },
}


def _pictures() -> list[bytes]:
    """One of each kind that is read, of few pixels, with metadata."""
    from PIL import Image

    samples = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Maker"
    found = []
    for kind in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF"):
        for mode in ("L", "RGB", "RGBA"):
            if kind == "JPEG" and mode == "RGBA":
                continue
            stream = io.BytesIO()
            options = {"lossless": mode == "RGBA"} if kind == "WEBP" else {}
            picture = Image.fromarray(samples).convert(mode)
            picture.save(stream, kind, exif=exif, dpi=(300, 300), **options)
            found.append(stream.getvalue())
    return found


def _small_graph() -> bytes:
    """The beginning of a model: version, operator set, a node and an input."""
    node = b"\x22\x04Conv"
    value = b"\x0a\x05image\x12\x04\x0a\x02\x08\x01"
    content = b"\x0a" + bytes([len(node)]) + node + b"\x5a" + bytes([len(value)]) + value
    return b"\x08\x0a\x42\x04\x0a\x00\x10\x14" + b"\x3a" + bytes([len(content)]) + content


ODD = (None, True, 0, -1, 3, 10**400, 1.5, float("nan"), float("inf"), "", ".", "..", "x/../y")
ODD += ("/etc/passwd", "C:x.engine", "a\\b", "a\0.engine", "\ud800.engine", "\n", "fp32")
ODD += ([], {}, [[]], [1, 2, 3], {"": 0}, {"path": "mask.engine", "sha256": ""})
"""Values that a field of a document might have."""


def _document(data: bytes, whole: bytes) -> bytes:
    """The input itself where it begins like a document, else a whole one with odd values.

    Flipped bytes alone hardly ever make another valid document: so the input's bytes also choose
    places, and what stands there.
    """
    if data[:1] in (b"{", b"["):
        return data
    content = json.loads(whole)
    choices = iter(data)
    for choice in choices:
        _replace(content, choice, choices)
    return json.dumps(content).encode()


def _replace(content: Any, choice: int, choices: Any) -> None:
    """Goes down into a document as the choices tell, and replaces or removes a value."""
    while True:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not keys:
            return
        key = keys[choice % len(keys)]
        if isinstance(content[key], (dict, list)) and next(choices, 0) % 4:
            content, choice = content[key], next(choices, 0)
            continue
        odd = next(choices, 0) % (len(ODD) + 1)
        if odd == len(ODD):
            del content[key]
        else:
            content[key] = copy.deepcopy(ODD[odd])
        return


@contextmanager
def _refused() -> Any:
    """Lets an error pass that is told as it should be."""
    try:
        yield
    except M2AError as error:
        _told(error)


def _told(error: M2AError) -> None:
    text = on_one_line(error)
    text.encode()
    assert text
    assert "\n" not in text


@functools.cache
def _folder() -> Path:
    """A folder of its own in one of its own, whose other content is watched."""
    folder = Path(tempfile.mkdtemp(prefix="m2a-fuzz-")) / "target"
    folder.mkdir()
    return folder.resolve()


def _outside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir())
