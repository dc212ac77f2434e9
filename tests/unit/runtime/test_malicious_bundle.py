"""A bundle made to do harm: its hashes are right, for its maker wrote the manifest too."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from m2a.errors import BackendError, BundleError
from m2a.runtime import bundle as bundle_module
from m2a.runtime import manifest as manifest_module
from m2a.runtime.backends import open_runners
from m2a.runtime.bundle import open_bundle
from m2a.runtime.loading import load


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


@pytest.fixture
def plant(bundle):
    """Puts a file into the bundle, under its right hash."""

    def put(content: bytes, name: str = "mask") -> Path:
        (bundle / "fp32" / f"{name}.onnx").write_bytes(content)
        manifest = json.loads((bundle / "manifest.json").read_text())
        manifest["graphs"]["fp32"][name]["sha256"] = hashlib.sha256(content).hexdigest()
        (bundle / "manifest.json").write_text(json.dumps(manifest))
        return bundle

    return put


@pytest.fixture
def mask(tiny_graphs):
    return copy.deepcopy(tiny_graphs["mask"])


@pytest.fixture
def no_session(monkeypatch):
    """ONNX Runtime must not even be asked."""

    def refuse(*_, **__):
        pytest.fail("a session was made")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)


def external(model, location):
    """The model, its first weight read from a file of that name."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", str(location)
    return model.SerializeToString()


def with_custom_operator(model):
    model.opset_import.append(helper.make_opsetid("evil", 1))
    model.graph.node.append(helper.make_node("Run", ["image"], ["x"], domain="evil"))
    return model.SerializeToString()


def with_a_loop(model):
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"])],
        "body",
        [
            helper.make_tensor_value_info("n", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, [])],
    )
    model.graph.node.append(helper.make_node("Loop", ["", ""], [], body=body))
    return model.SerializeToString()


@pytest.mark.usefixtures("no_session")
class TestBeforeASession:
    @pytest.mark.parametrize("location", ["/etc/passwd", "../secret.bin", "secret.bin"])
    def test_weights_outside_the_file(self, plant, mask, location):
        folder = plant(external(mask, location))
        with pytest.raises(BundleError, match=r"mask\.onnx.*weights outside the file"):
            load(folder)

    def test_a_custom_operator(self, plant, mask):
        with pytest.raises(BundleError, match=r"evil\.Run"):
            load(plant(with_custom_operator(mask)))

    def test_a_loop_that_never_ends(self, plant, mask):
        with pytest.raises(BundleError, match=r"operators \['Loop'\].*inside attributes"):
            load(plant(with_a_loop(mask)))

    def test_a_node_under_a_number_that_other_parsers_cut_to_32_bits(self, plant, mask):
        """ONNX Runtime would read the field 1 + 2^29 of a graph as 1, which is a node."""
        node = helper.make_node("NonZero", ["image"], ["x"]).SerializeToString()
        field = b"\x8a\x80\x80\x80\x10" + bytes([len(node)]) + node
        graph = b"\x3a" + bytes([len(field)]) + field
        with pytest.raises(BundleError, match="more than 29 bits"):
            load(plant(mask.SerializeToString() + graph))

    def test_a_second_graph_joined_to_a_good_one(self, plant, mask):
        other = onnx.ModelProto()
        other.graph.node.append(helper.make_node("NonZero", ["image"], ["x"]))
        with pytest.raises(BundleError, match="NonZero"):
            load(plant(mask.SerializeToString() + other.SerializeToString()))

    def test_a_graph_of_another_precision(self, plant, mask):
        mask.graph.node.append(helper.make_node("QuantizeLinear", ["image"], ["x"]))
        with pytest.raises(BundleError, match="QuantizeLinear"):
            load(plant(mask.SerializeToString()))

    @pytest.mark.parametrize("content", [b"", b"\x08", b"ORTM" * 100, bytes(range(256))])
    def test_what_is_no_graph(self, plant, content):
        with pytest.raises(BundleError, match=r"mask\.onnx"):
            load(plant(content))


class TestEvenWithoutOurCheck:
    """What ONNX Runtime itself refuses of bytes: the second wall."""

    def test_weights_of_a_file_elsewhere(self, mask, tmp_path, monkeypatch):
        """Bytes have no place, so a path beside them leads nowhere but the working directory."""
        (tmp_path / "elsewhere").mkdir()
        secret = tmp_path / "elsewhere" / "secret.bin"
        secret.write_bytes(bytes(10**6))
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        for location in (secret, "../elsewhere/secret.bin"):
            content = external(copy.deepcopy(mask), location)
            with pytest.raises(BackendError, match="cannot open the graph"):
                open_runners([content], backend="ort-cpu")

    def test_an_operator_that_no_library_registers(self, mask):
        with pytest.raises(BackendError, match="cannot open the graph"):
            open_runners([with_custom_operator(mask)], backend="ort-cpu")

    def test_its_own_format_which_the_check_cannot_read(self, mask, tmp_path):
        settings = onnxruntime.SessionOptions()
        settings.optimized_model_filepath = str(tmp_path / "mask.ort")
        settings.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(mask.SerializeToString(), settings)
        content = (tmp_path / "mask.ort").read_bytes()
        assert content[4:8] == b"ORTM"
        onnxruntime.InferenceSession(content)  # else the next line would prove nothing
        with pytest.raises(BackendError, match="cannot open the graph"):
            open_runners([content], backend="ort-cpu")


posix = pytest.mark.skipif(os.name != "posix", reason="links and pipes as POSIX has them")


@posix
class TestFilesThatAreNone:
    def graph(self, bundle):
        return open_bundle(bundle).graph("mask", precision="fp32")

    def test_a_link_that_leaves_the_bundle(self, bundle, tmp_path):
        path = bundle / "fp32" / "mask.onnx"
        path.rename(tmp_path / "elsewhere.onnx")
        path.symlink_to(tmp_path / "elsewhere.onnx")
        with pytest.raises(BundleError, match="link that leaves the bundle"):
            self.graph(bundle)

    def test_a_folder_that_is_such_a_link(self, bundle, tmp_path):
        (bundle / "fp32").rename(tmp_path / "elsewhere")
        (bundle / "fp32").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(BundleError, match="link that leaves the bundle"):
            self.graph(bundle)

    def test_a_link_inside_the_bundle_and_one_to_it_are_followed(self, bundle, tmp_path):
        path = bundle / "fp32" / "mask.onnx"
        path.rename(bundle / "real.onnx")
        path.symlink_to(bundle / "real.onnx")
        (tmp_path / "link").symlink_to(bundle)
        assert self.graph(tmp_path / "link") == (bundle / "real.onnx").read_bytes()

    def test_a_loop_of_links(self, bundle):
        path = bundle / "fp32" / "mask.onnx"
        path.unlink()
        path.symlink_to(path)
        with pytest.raises(BundleError, match="cannot read"):
            self.graph(bundle)

    @pytest.mark.parametrize("name", ["manifest.json", "fp32/mask.onnx"])
    def test_a_pipe_is_not_waited_for(self, bundle, name):
        (bundle / name).unlink()
        os.mkfifo(bundle / name)
        with pytest.raises(BundleError, match="not a regular file"):
            self.graph(bundle)

    @pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/zero")
    def test_a_device_that_never_ends(self, bundle):
        (bundle / "manifest.json").unlink()
        (bundle / "manifest.json").symlink_to("/dev/zero")
        with pytest.raises(BundleError, match="not a regular file"):
            open_bundle(bundle)


@pytest.mark.parametrize(
    ("module", "limit"), [(manifest_module, "MAX_MANIFEST"), (bundle_module, "MAX_FILE")]
)
def test_a_file_too_long_to_be_meant(bundle, monkeypatch, module, limit):
    monkeypatch.setattr(module, limit, 100)
    with pytest.raises(BundleError, match="longer than 100 bytes"):
        open_bundle(bundle).graph("mask", precision="fp32")


@pytest.mark.parametrize(
    ("field", "value"), [("dilate", 10**9), ("dilate", 1025), ("threshold", 10**400)]
)
def test_a_number_too_large_to_be_meant(bundle, field, value):
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest[field] = value
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=field):
        open_bundle(bundle)


@pytest.mark.parametrize("path", ["\ud800.onnx", "fp32/mask\n.onnx", "fp32/mask\x1b[2J.onnx"])
def test_a_name_that_cannot_be_printed(bundle, path):
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["graphs"]["fp32"]["mask"]["path"] = path
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="leaves the folder"):
        open_bundle(bundle)


def plant_reference(bundle):
    """Gives reference.npz its right hash."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    content = (bundle / "reference.npz").read_bytes()
    manifest["reference"]["sha256"] = hashlib.sha256(content).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))


ARRAYS = ("image", "probability", "mask", "residual", "motion")


def test_arrays_that_claim_to_be_enormous(bundle):
    """NumPy allocates what a header claims before it looks whether that is there."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }"
    header += b" " * (117 - len(header)) + b"\n"
    bomb = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(bundle / "reference.npz", "w") as archive:
        for name in ARRAYS:
            archive.writestr(f"{name}.npy", bomb)
    plant_reference(bundle)
    with pytest.raises(BundleError, match="is not a reference"):
        open_bundle(bundle).reference()


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'shape': (",  # tokenize.TokenError
        b"{'descr': '<f4' 'fortran_order': }",  # SyntaxError
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 40 + b",), }",
    ],
)
def test_an_array_whose_header_cannot_be_parsed(bundle, header):
    array = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
    with zipfile.ZipFile(bundle / "reference.npz", "w") as archive:
        for name in ARRAYS:
            archive.writestr(f"{name}.npy", array)
    plant_reference(bundle)
    with pytest.raises(BundleError, match="is not a reference"):
        open_bundle(bundle).reference()


@pytest.mark.parametrize(("place", "value"), [("flags", 1), ("method", zipfile.ZIP_LZMA)])
def test_an_archive_that_is_encrypted_or_damaged(bundle, place, value):
    """RuntimeError and LZMAError."""
    with zipfile.ZipFile(bundle / "reference.npz", "w") as archive:
        for name in ARRAYS:
            archive.writestr(f"{name}.npy", b"\x09\x04\x05\x00" + b"\xff" * 100)
    content = bytearray((bundle / "reference.npz").read_bytes())
    local, central = (6, 8) if place == "flags" else (8, 10)
    for mark, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        start = -1
        while (start := content.find(mark, start + 1)) >= 0:
            content[start + offset] = value
    (bundle / "reference.npz").write_bytes(content)
    plant_reference(bundle)
    with pytest.raises(BundleError, match="is not a reference"):
        open_bundle(bundle).reference()


def test_arrays_that_unpack_to_too_much(bundle, monkeypatch):
    np.savez_compressed(bundle / "reference.npz", **dict.fromkeys(ARRAYS, np.zeros(10**6)))
    plant_reference(bundle)
    monkeypatch.setattr(bundle_module, "MAX_FILE", 10**6)
    with pytest.raises(BundleError, match="it unpacks to 40000640 bytes"):
        open_bundle(bundle).reference()
