"""Bundles are untrusted input: what is refused, with which words, and which one is found."""

from __future__ import annotations

import hashlib
import io
import shutil

import numpy as np
import pytest

from m2a.errors import BundleError, UsageError
from m2a.runtime import bundle as bundle_module
from m2a.runtime.bundle import find_bundle, open_bundle


def test_a_bundle_opens_with_its_settings(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    assert (bundle.path, bundle.origin) == (tiny_bundle, "given")
    assert (bundle.threshold, bundle.dilate) == (0.5, 4)
    assert bundle.precisions == ("fp32",)
    assert bundle.manifest["metrics"] == {"gain_db": 1.5}


def test_a_graph_is_returned_as_it_was_exported(tiny_bundle):
    for name in ("mask", "restore"):
        content = (tiny_bundle / "fp32" / f"{name}.onnx").read_bytes()
        assert open_bundle(tiny_bundle).graph(name, precision="fp32") == content


@pytest.mark.parametrize("name", ["mask", "restore"])
@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_one_changed_byte_in_a_graph_is_refused_by_name(copied, name, place):
    path = copied / "fp32" / f"{name}.onnx"
    content = bytearray(path.read_bytes())
    content[place if isinstance(place, int) else int(len(content) * place)] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name}\.onnx is not the file that was exported"):
        open_bundle(copied).graph(name, precision="fp32")


def test_a_changed_reference_is_refused_by_name(copied):
    with (copied / "reference.npz").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"reference\.npz is not the file"):
        open_bundle(copied).reference()


def test_a_missing_graph_is_named(copied):
    (copied / "fp32" / "mask.onnx").unlink()
    with pytest.raises(BundleError, match=r"cannot read .*mask\.onnx"):
        open_bundle(copied).graph("mask", precision="fp32")


def test_a_precision_that_is_not_there_is_a_misuse(tiny_bundle):
    with pytest.raises(UsageError, match="has no int8 graphs; it has fp32"):
        open_bundle(tiny_bundle).graph("mask", precision="int8")
    with pytest.raises(UsageError, match="unknown precision 'half'; known are fp32, fp16, int8"):
        open_bundle(tiny_bundle).graph("mask", precision="half")
    with pytest.raises(
        UsageError, match=r"it has fp32; `m2a export --ckpt .* --fp16 --threshold .*` makes"
    ):
        open_bundle(tiny_bundle).graph("mask", precision="fp16")


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(BundleError, match="nowhere"):
        open_bundle(tmp_path / "nowhere")


def test_a_missing_manifest_is_named(copied):
    (copied / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest\.json"):
        open_bundle(copied)


@pytest.mark.parametrize("path", ["", ".", "fp32", "fp32/mask\0.onnx"])
def test_a_path_that_is_no_file_is_refused(edit, path):
    folder = edit(lambda m: m["graphs"]["fp32"]["mask"].update(path=path))
    with pytest.raises(BundleError):
        open_bundle(folder).graph("mask", precision="fp32")


@pytest.mark.parametrize("arrays", [{"image": np.zeros(1)}, {"image": np.array([{}], object)}])
def test_a_reference_that_lacks_arrays_or_is_pickled_is_refused(edit, copied, arrays):
    np.savez(copied / "reference.npz", **arrays)
    digest = hashlib.sha256((copied / "reference.npz").read_bytes()).hexdigest()
    edit(lambda manifest: manifest["reference"].update(sha256=digest))
    with pytest.raises(BundleError, match="is not a reference"):
        open_bundle(copied).reference()


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut short", b"", b"text", npy()])
def test_a_reference_that_is_no_archive_is_refused(edit, copied, content):
    (copied / "reference.npz").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit(lambda manifest: manifest["reference"].update(sha256=digest))
    with pytest.raises(BundleError, match="is not a reference"):
        open_bundle(copied).reference()


class TestSearchOrder:
    """Given, $M2A_BUNDLE, ./m2a-bundle for the command line alone, packaged."""

    @pytest.fixture(autouse=True)
    def places(self, tiny_bundle, tmp_path, monkeypatch):
        names = ("given", "environment", "work/m2a-bundle", "packaged")
        self.at = {name: shutil.copytree(tiny_bundle, tmp_path / name) for name in names}
        monkeypatch.chdir(tmp_path / "work")
        monkeypatch.setattr(bundle_module, "PACKAGED", self.at["packaged"])
        monkeypatch.setenv("M2A_BUNDLE", str(self.at["environment"]))

    def test_the_given_one_wins(self):
        found = find_bundle(self.at["given"], working_directory=True)
        assert (found.path, found.origin) == (self.at["given"], "given")

    def test_then_the_environment_variables(self):
        found = find_bundle(None, working_directory=True)
        assert (found.path, found.origin) == (self.at["environment"], "$M2A_BUNDLE")

    @pytest.mark.parametrize("value", [None, ""])
    def test_then_the_working_directorys(self, monkeypatch, value):
        if value is None:
            monkeypatch.delenv("M2A_BUNDLE")
        else:
            monkeypatch.setenv("M2A_BUNDLE", value)
        found = find_bundle(None, working_directory=True)
        assert found.path.resolve() == self.at["work/m2a-bundle"]
        assert found.origin == "./m2a-bundle"

    def test_the_library_never_looks_into_the_working_directory(self, monkeypatch):
        monkeypatch.delenv("M2A_BUNDLE")
        found = find_bundle(None, working_directory=False)
        assert (found.path, found.origin) == (self.at["packaged"], "packaged with m2a")

    def test_then_the_packaged_one(self, monkeypatch):
        monkeypatch.delenv("M2A_BUNDLE")
        shutil.rmtree(self.at["work/m2a-bundle"])
        assert find_bundle(None, working_directory=True).path == self.at["packaged"]

    def test_a_wrong_choice_is_an_error_and_not_skipped(self, monkeypatch):
        monkeypatch.setenv("M2A_BUNDLE", str(self.at["given"] / "nowhere"))
        with pytest.raises(BundleError, match="nowhere"):
            find_bundle(None, working_directory=True)
