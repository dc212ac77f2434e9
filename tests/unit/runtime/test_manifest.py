"""The manifest of a bundle is untrusted: what is refused, and with which words."""

from __future__ import annotations

import pytest

from m2a.errors import BundleError
from m2a.runtime.bundle import open_bundle


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b"[" * 100_000, b'{"schema": NaN}']
)
def test_a_manifest_that_is_no_json_object_is_refused(copied, content):
    (copied / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        open_bundle(copied)


def test_another_schema_is_refused_with_both_numbers(edit):
    path = edit(lambda manifest: manifest.update(schema=99))
    with pytest.raises(BundleError, match=r"schema must be 1, .* found 99"):
        open_bundle(path)


@pytest.mark.parametrize(
    "path",
    [
        "../mask.onnx",
        "fp32/../../mask.onnx",
        "/etc/passwd",
        "..",
        "C:/mask.onnx",
        "..\\mask.onnx",
    ],
)
def test_a_path_that_leaves_the_bundle_is_refused(edit, path):
    folder = edit(lambda m: m["graphs"]["fp32"]["mask"].update(path=path))
    with pytest.raises(BundleError, match="leaves the folder"):
        open_bundle(folder)


def test_the_references_path_must_not_leave_the_bundle_either(edit):
    folder = edit(lambda m: m["reference"].update(path="../reference.npz"))
    with pytest.raises(BundleError, match="leaves the folder"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", 0),
        ("threshold", 1.5),
        ("threshold", "half"),
        ("threshold", True),
        ("threshold", None),
        ("dilate", -1),
        ("dilate", 1.5),
        ("dilate", True),
        ("graphs", {}),
        ("graphs", {"fp16": {}}),
        ("graphs", {"fp32": {"mask": {}}}),
        ("graphs", {"fp32": []}),
        ("reference", None),
        ("reference", {"path": 3, "sha256": ""}),
    ],
)
def test_an_invalid_field_is_refused_by_name(edit, field, value):
    folder = edit(lambda manifest: manifest.update({field: value}))
    with pytest.raises(BundleError, match=field if field != "graphs" else "fp32"):
        open_bundle(folder)


def test_whether_the_mask_is_mirrored_is_true_or_false(edit):
    folder = edit(lambda manifest: manifest["model"]["config"].update(mask_mirrored="no"))
    with pytest.raises(BundleError, match="mask_mirrored must be true or false, found 'no'"):
        open_bundle(folder)


def test_a_bundle_that_does_not_say_it_is_not_mirrored(edit):
    folder = edit(lambda manifest: manifest["model"]["config"].pop("mask_mirrored"))
    assert not open_bundle(folder).network.mask_mirrored


@pytest.mark.parametrize("field", ["schema", "threshold", "dilate", "graphs", "reference"])
def test_a_missing_field_is_named(edit, field):
    folder = edit(lambda manifest: manifest.pop(field))
    with pytest.raises(BundleError, match=rf"{field} must be .*, found nothing"):
        open_bundle(folder)
