"""Variants: judged before they are written, written so that half of one is never seen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from m2a.calibration import add_variant, make_float16
from m2a.calibration.variants import MIN_MARGIN, crop_of, judge
from m2a.errors import BundleError, PrecisionError
from m2a.files import atomic_write
from m2a.runtime.bundle import PACKAGED, open_bundle
from m2a.runtime.loading import open_bundle_on
from m2a.runtime.verify import verify


@pytest.fixture(scope="module")
def variant(tiny_bundle):
    return make_float16(open_bundle(tiny_bundle))


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return open_bundle(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def single(bundle):
    return {name: bundle.graph(name, precision="fp32") for name in ("mask", "restore")}


def changed(graph, change):
    """A serialised graph with every weight matrix changed."""
    model = onnx.load_model_from_string(graph)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim > 1:
            tensor.CopyFrom(numpy_helper.from_array(change(values), tensor.name))
    return model.SerializeToString()


def test_fp16_differs_from_fp32_by_no_more_than_half_precision_explains(variant):
    assert variant.precision == "fp16"
    assert variant.mask_iou >= 0.97
    assert 30 < variant.residual_margin < 90  # FP16 has 11 bits: 66 dB a rounding
    assert 30 < variant.mask_margin < 90
    for stage, error in variant.errors.items():
        assert 0 < error < 0.1, stage
        assert variant.limits[stage] >= error


def test_the_packaged_model_passes_too():
    packaged = make_float16(open_bundle(PACKAGED))
    assert min(packaged.residual_margin, packaged.mask_margin) > 30


def test_a_variant_that_was_added_is_opened_run_and_verified(bundle, variant):
    added = add_variant(bundle, variant)
    assert added.precisions == ("fp32", "fp16")
    assert added.limits["fp16"] == variant.limits
    assert added.manifest["variants"]["fp16"]["residual_margin_db"] > MIN_MARGIN
    deblurrer = open_bundle_on(added, precision="fp16")
    assert deblurrer.precision == "fp16"
    outcome = verify(added, deblurrer)
    assert outcome.failed is None
    assert outcome.precision == "fp16"
    assert outcome.stages[1].error > 1e-5  # it was FP16 that ran
    # FP32 keeps its own, stricter limits.
    assert verify(added, open_bundle_on(added)).stages[1].limit == 1e-4


def test_adding_a_variant_again_replaces_it(bundle, variant):
    twice = add_variant(add_variant(bundle, variant), variant)
    assert twice.precisions == ("fp32", "fp16")
    assert not list(bundle.path.rglob("*.tmp"))


def test_a_graph_without_error_has_no_margin_in_the_manifest(bundle, variant):
    """Infinity is not JSON, though Python reads it."""
    added = add_variant(bundle, replace(variant, mask_margin=np.inf))

    def refuse(word):
        raise ValueError(word)

    text = (added.path / "manifest.json").read_text()
    content = json.loads(text, parse_constant=refuse)
    assert content["variants"]["fp16"]["mask_margin_db"] is None


def test_variants_that_are_added_at_the_same_time_both_stay(bundle, variant, monkeypatch):
    def interrupted(path, content, *, overwrite):
        monkeypatch.setattr("m2a.calibration.adding.atomic_write", atomic_write)
        add_variant(bundle, replace(variant, precision="int8"))
        atomic_write(path, content, overwrite=overwrite)

    monkeypatch.setattr("m2a.calibration.adding.atomic_write", interrupted)
    assert set(add_variant(bundle, variant).precisions) == {"fp32", "fp16", "int8"}


@pytest.mark.parametrize("section", ["limits", "variants"])
@pytest.mark.parametrize("found", [None, []])
def test_a_section_of_another_kind_is_replaced(bundle, variant, section, found):
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    (bundle.path / "manifest.json").write_text(json.dumps(manifest | {section: found}))
    added = add_variant(open_bundle(bundle.path), variant)
    assert list(added.manifest[section]) == ["fp16"]


@pytest.mark.parametrize("side", [1, 64, 65, 95, 96, 200])
@pytest.mark.parametrize("end", [0, -1])
def test_the_crop_in_half_arithmetic_reaches_every_border(side, end):
    for mask in (np.zeros((side, 200), bool), np.zeros((200, side), bool)):
        mask[end, end] = True
        box = crop_of(mask)
        assert mask[box].any()
        assert mask[box].shape == tuple(min(64, length) for length in mask.shape)


def test_a_changed_byte_of_a_variant_is_refused(bundle, variant):
    added = add_variant(bundle, variant)
    file = added.path / "fp16" / "mask.onnx"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"fp16.mask\.onnx is not the file"):
        open_bundle_on(added, precision="fp16")


@pytest.mark.parametrize("succeeding", range(4))
@pytest.mark.parametrize("again", [False, True])
def test_a_failed_write_leaves_a_bundle_that_is_whole(
    bundle, variant, monkeypatch, again, succeeding
):
    """Manifest without it (when replaced), two graphs, manifest: whichever fails."""
    if again:
        bundle = add_variant(bundle, variant)
    written = []

    def full(path, content, *, overwrite):
        if len(written) == succeeding:
            raise OSError(28, "No space left on device")
        written.append(path)
        atomic_write(path, content, overwrite=overwrite)

    monkeypatch.setattr("m2a.calibration.adding.atomic_write", full)
    if succeeding == 3 and not again:
        assert add_variant(bundle, variant).precisions == ("fp32", "fp16")
        return
    with pytest.raises(BundleError, match="No space left"):
        add_variant(bundle, variant)
    left = open_bundle(bundle.path)
    assert left.precisions == (("fp32", "fp16") if again and succeeding == 0 else ("fp32",))
    for precision in left.precisions:
        for name in ("mask", "restore"):
            assert left.graph(name, precision=precision)


def test_a_bundle_that_was_exported_again_meanwhile_is_left_alone(bundle, variant):
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    manifest["graphs"]["fp32"]["mask"]["sha256"] = "0" * 64
    (bundle.path / "manifest.json").write_text(json.dumps(manifest))
    before = (bundle.path / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match="exported again meanwhile"):
        add_variant(bundle, variant)
    assert (bundle.path / "manifest.json").read_bytes() == before


def test_a_link_that_leaves_the_bundle_is_not_followed(bundle, variant, tmp_path):
    outside = tmp_path / "outside.onnx"
    outside.write_bytes(b"precious")
    (bundle.path / "fp16").mkdir()
    (bundle.path / "fp16" / "mask.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match="a link that leaves the bundle"):
        add_variant(bundle, variant)
    assert outside.read_bytes() == b"precious"


def test_the_bundle_inside_the_package_is_not_changed(variant):
    with pytest.raises(BundleError, match="inside the package"):
        add_variant(open_bundle(PACKAGED), variant)


@pytest.mark.parametrize("limit", [0, -1, 2, float("inf"), float("nan"), 10**400])
def test_limits_that_prove_nothing_are_refused(bundle, variant, limit):
    manifest = json.loads((add_variant(bundle, variant).path / "manifest.json").read_text())
    manifest["limits"]["fp16"]["mask"] = limit
    (bundle.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"limits\.fp16\.mask must be "):
        open_bundle(bundle.path)


def test_a_variant_is_verified_on_a_given_picture_too(bundle, variant):
    added = add_variant(bundle, variant)
    picture = np.random.default_rng(0).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    # A random predictor may find nothing: so low a threshold that it does.
    deblurrer = open_bundle_on(added, precision="fp16", threshold=1e-6)
    outcome = verify(added, deblurrer, picture)
    assert outcome.failed is None
    assert [stage.limit for stage in outcome.stages[:3]] == [0.25] * 3
    assert all(1e-5 < stage.error < 0.05 for stage in outcome.stages[:3])


def test_a_variant_without_limits_is_refused(bundle, variant):
    manifest = json.loads((add_variant(bundle, variant).path / "manifest.json").read_text())
    del manifest["limits"]["fp16"]["restore.motion"]
    (bundle.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"limits\.fp16\.restore\.motion must be"):
        open_bundle(bundle.path)


class TestJudge:
    def test_the_same_graphs_differ_by_nothing(self, bundle):
        found = judge(bundle, "fp32", single(bundle))
        assert found.residual_margin == found.mask_margin == np.inf
        assert set(found.errors.values()) == {0.0}

    def test_a_restoration_that_is_ten_percent_off_keeps_20_db(self, bundle):
        graphs = single(bundle)
        model = onnx.load_model_from_string(graphs["restore"])
        (last,) = [node for node in model.graph.node if "residual" in node.output]
        last.output[0] = "shrunk"
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0.9), "ninety"))
        model.graph.node.append(onnx.helper.make_node("Mul", ["shrunk", "ninety"], ["residual"]))
        graphs["restore"] = model.SerializeToString()
        # The mean of the residual is off too, and its deviation is what the error is compared with.
        residual = bundle.reference().residual[bundle.reference().mask]
        share = np.square(residual).mean() / residual.var()
        expected = 20 - 10 * np.log10(share)
        assert judge(bundle, "off", graphs).residual_margin == pytest.approx(expected, abs=0.01)

    def test_another_restoration_is_refused_with_its_figures(self, bundle):
        graphs = single(bundle)
        graphs["restore"] = changed(graphs["restore"], lambda weights: 1.3 * weights)
        with pytest.raises(PrecisionError, match=r"and -?[\d.]+ dB below their own"):
            judge(bundle, "off", graphs)

    def test_another_mask_is_refused(self, bundle):
        graphs = single(bundle)
        graphs["mask"] = changed(graphs["mask"], np.negative)
        with pytest.raises(PrecisionError, match=r"IoU of the masks is 0\.\d+, expected at least"):
            judge(bundle, "off", graphs)

    def test_a_mask_that_never_fires_is_refused_where_the_reference_is_empty_too(self, bundle):
        """Two empty masks have an IoU of 1."""
        bundle = replace(bundle, threshold=0.999999)
        graphs = single(bundle)
        model = onnx.load_model_from_string(graphs["mask"])
        (last,) = [node for node in model.graph.node if node.op_type == "Sigmoid"]
        model.graph.initializer.append(numpy_helper.from_array(np.float32(20), "twenty"))
        shifted = onnx.helper.make_node("Sub", [last.input[0], "twenty"], ["shifted"])
        last.input[0] = "shifted"
        model.graph.node.insert(len(model.graph.node) - 1, shifted)
        graphs["mask"] = model.SerializeToString()
        with pytest.raises(PrecisionError, match=r"of the mask's logits .* lie -\d"):
            judge(bundle, "off", graphs)

    def test_values_that_are_not_finite_are_refused(self, bundle):
        graphs = single(bundle)
        graphs["restore"] = changed(graphs["restore"], lambda weights: weights * np.float32(1e30))
        with pytest.raises(PrecisionError, match="not finite"):
            judge(bundle, "off", graphs)
