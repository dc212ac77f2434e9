"""The quality gate, and what goes back to FP32 until it holds."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from m2a.calibration.activations import check_activations, largest_activations
from m2a.calibration.float16 import make_float16_on
from m2a.calibration.gate import Gate, Judge
from m2a.calibration.int8 import _most_restored, make_int8
from m2a.calibration.photos import choose_photos
from m2a.calibration.ranges import Ranges
from m2a.calibration.recording import open_graphs
from m2a.calibration.sensitivity import choose_kept
from m2a.errors import ImageError, PrecisionError, UsageError
from m2a.runtime.backends import open_runners
from m2a.runtime.bundle import Bundle

GOOD = Gate(photos=1, pixels=1, iou=1.0, psnr=math.inf, margin=math.inf, loss=None)


def single(bundle):
    return {name: bundle.graph(name, precision="fp32") for name in ("mask", "restore")}


def scaled(graph, output, factor):
    """A graph whose output is multiplied."""
    model = onnx.load_model_from_string(graph)
    (last,) = [node for node in model.graph.node if output in node.output]
    last.output[0] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(factor), "factor"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["before", "factor"], [output]))
    return model.SerializeToString()


@pytest.fixture
def sets(photos):
    return choose_photos(photos)


@pytest.fixture
def judge(sensitive_bundle, sets):
    opened = open_graphs(sensitive_bundle, single(sensitive_bundle), precision="fp32")
    with Judge(opened, sets.judging) as judge:
        yield judge


class TestGate:
    def test_fp32_itself_uses_nothing(self, sensitive_bundle, judge):
        found = judge.judge(
            open_graphs(sensitive_bundle, single(sensitive_bundle), precision="fp32")
        )
        assert (found.iou, found.psnr, found.margin) == (1.0, math.inf, math.inf)
        assert found.used == 0
        assert found.to_json()["psnr_db"] is None

    def test_a_restoration_ten_percent_off_lies_20_db_below_what_fp32_adds(
        self, sensitive_bundle, judge
    ):
        graphs = single(sensitive_bundle)
        graphs["restore"] = scaled(graphs["restore"], "residual", 0.9)
        found = judge.judge(open_graphs(sensitive_bundle, graphs, precision="int8"))
        assert found.margin == pytest.approx(20, abs=0.01)
        assert found.iou == 1.0
        assert found.pixels > 1000

    def test_a_mask_that_never_fires_costs_all_that_fp32_adds(self, sensitive_bundle, judge):
        graphs = single(sensitive_bundle)
        graphs["mask"] = scaled(graphs["mask"], "mask", 0.0)
        found = judge.judge(open_graphs(sensitive_bundle, graphs, precision="int8"))
        assert found.iou == 0
        assert found.margin == pytest.approx(0, abs=1e-6)
        assert not found.passed

    def test_values_that_are_not_finite_use_up_everything(self, sensitive_bundle, judge):
        graphs = single(sensitive_bundle)
        graphs["restore"] = scaled(graphs["restore"], "residual", np.inf)
        found = judge.judge(open_graphs(sensitive_bundle, graphs, precision="int8"))
        assert not found.passed

    def test_a_loss_against_the_truth_counts(self, sensitive_bundle, photos, tmp_path):
        """The truth is FP32's own result: whoever adds nothing loses."""
        for name in ("blurred", "sharp"):
            shutil.copytree(photos, tmp_path / name)
        (tmp_path / "mask").mkdir()
        opened = open_graphs(sensitive_bundle, single(sensitive_bundle), precision="fp32")
        for path in sorted(photos.iterdir()):
            result = opened(path)
            Image.fromarray(result.image).save(tmp_path / "sharp" / path.name)
            mask = Image.fromarray((result.mask * 255).astype(np.uint8))
            mask.save(tmp_path / "mask" / path.name)
        graphs = single(sensitive_bundle)
        graphs["restore"] = scaled(graphs["restore"], "residual", 0.5)
        with Judge(opened, choose_photos(tmp_path).judging) as judge:
            found = judge.judge(open_graphs(sensitive_bundle, graphs, precision="int8"))
        assert found.loss > 3
        assert not found.passed
        assert found.to_json()["photos_with_truth"] == 2

    def test_a_truth_of_another_size_is_refused(self, sensitive_bundle, sets, tmp_path):
        (photo, *_) = sets.judging
        Image.new("RGB", (8, 8)).save(tmp_path / "sharp.png")
        Image.new("L", (96, 64), 255).save(tmp_path / "mask.png")
        odd = replace(photo, sharp=tmp_path / "sharp.png", mask=tmp_path / "mask.png")
        opened = open_graphs(sensitive_bundle, single(sensitive_bundle), precision="fp32")
        words = r"sharp\.png: found an array of \[8, 8, 3\], expected \[64, 96, 3\]"
        with Judge(opened, [odd]) as judge, pytest.raises(ImageError, match=words):
            judge.judge(opened)

    @pytest.mark.parametrize(
        ("figures", "passed"),
        [
            ({"iou": 0.97001}, True),
            ({"iou": 0.96999}, False),
            ({"psnr": 42.01}, True),
            ({"psnr": 41.99}, False),
            ({"margin": 12.01}, True),
            ({"margin": 11.99}, False),
            ({"loss": 0.0999}, True),
            ({"loss": -3.0}, True),
            ({"loss": 0.1001}, False),
            ({"psnr": math.nan}, False),
        ],
    )
    def test_each_limit_decides(self, figures, passed):
        assert replace(GOOD, **figures).passed is passed

    def test_photos_in_which_fp32_finds_nothing_are_refused(self, sensitive_bundle, sets):
        bundle = replace(sensitive_bundle, threshold=1.0)
        opened = open_graphs(bundle, single(bundle), precision="fp32")
        with pytest.raises(UsageError, match="no error would show"), Judge(opened, sets.judging):
            pass
        with (
            pytest.raises(UsageError, match="photos that rank the parts"),
            Judge(opened, sets.calibrating, role="rank the parts"),
        ):
            pass


class TestChoice:
    WORTH = dict(a=0.1, b=0.8, c=0.05, d=0.7, e=0.0, f=0.0, g=0.0, h=0.0)  # noqa: C408, RUF012

    def gate(self, used):
        return replace(GOOD, iou=1 - 0.03 * used)

    def judged(self, kept):
        """Independent errors add up."""
        return self.gate(sum(share for part, share in self.WORTH.items() if part not in kept))

    def alone(self, part):
        return self.gate(self.WORTH[part])

    def test_the_fewest_go_back_the_worst_first(self):
        choice = choose_kept(self.WORTH, self.judged, self.alone)
        assert list(choice.kept) == ["b"]
        assert choice.kept["b"] == pytest.approx(0.8)
        assert choice.gate.used == pytest.approx(0.85)
        assert choice.without.used == pytest.approx(1.65)

    def test_nothing_is_measured_where_the_gate_holds_at_once(self):
        choice = choose_kept(["c", "e"], lambda kept: self.gate(0.1), lambda part: 1 / 0)
        assert choice.kept == {}
        assert choice.without is None

    @pytest.mark.parametrize(("used", "kept"), [(0.89, 1), (0.91, 2)])
    def test_a_choice_leaves_some_room(self, used, kept):
        shares = {0: 2.0, 1: used, 2: 0.5}
        choice = choose_kept(
            self.WORTH, lambda kept: self.gate(shares.get(len(kept), 0.1)), self.alone
        )
        assert len(choice.kept) == kept

    def test_without_room_the_most_go_back(self):
        choice = choose_kept(
            self.WORTH, lambda kept: self.gate(0.95 if len(kept) == 4 else 2), self.alone
        )
        assert len(choice.kept) == 4
        assert choice.gate.passed

    @pytest.mark.parametrize("needed", range(1, 5))
    def test_as_many_as_it_takes(self, needed):
        choice = choose_kept(
            self.WORTH, lambda kept: self.gate(0.5 if len(kept) >= needed else 2), self.alone
        )
        assert list(choice.kept) == ["b", "d", "a", "c"][:needed]

    def test_a_gate_that_cannot_be_met_fails_with_figures(self):
        words = r"IoU is 0\.9400.*4 of 8 products back.*at least 0\.97.*take FP16"
        with pytest.raises(PrecisionError, match=words):
            choose_kept(self.WORTH, lambda kept: self.gate(2), self.alone)


class TestInt8:
    def test_it_is_calibrated_judged_and_recorded(self, sensitive_bundle, sets, tmp_path):
        variant = make_int8(sensitive_bundle, sets, method="minmax", cache=tmp_path / "cache")
        record = variant.to_json()
        assert record["calibration"]["method"] == "minmax"
        assert record["calibration"]["photos"] == 4
        gate = record["gate"]
        assert (gate["photos"], gate["seed"]) == (2, 0)
        assert gate["mask_iou"] >= 0.97
        assert gate["psnr_db"] >= 42
        assert 12 <= gate["margin_db"] < 60  # and it was INT8 that ran
        done, total = record["products_in_int8"]["restore"]
        assert done > 0
        assert total == 21
        kept = len(record["kept_in_fp32"])
        everything = sum(total for _, total in record["products_in_int8"].values())
        assert sum(done for done, _ in record["products_in_int8"].values()) == everything - kept
        assert (record["gate_with_all_in_int8"] is None) == (kept == 0)
        assert all(0 < limit <= 1 for limit in variant.limits.values())

    def test_the_photos_with_most_to_restore_rank_the_parts(self, sets):
        ranges = Ranges(largest={}, restored=(5, 0, 7, 6))
        a, _, c, d = sets.calibrating
        assert _most_restored(sets, ranges)[:3] == (c, d, a)

    def test_a_network_that_int8_ruins_is_refused(self, sensitive_bundle, sets, monkeypatch):
        """Ranges so small that every activation is clipped: each part is measured alone."""
        ranges = Ranges(largest=_AnyRange(), restored=(1, 1, 1, 1))
        monkeypatch.setattr("m2a.calibration.int8.cached_ranges", lambda *_, **__: ranges)
        opened = []

        def open_counted(graphs, **options):
            opened.extend(graphs)
            return open_runners(graphs, **options)

        for module in ("int8", "recording"):
            monkeypatch.setattr(f"m2a.calibration.{module}.open_runners", open_counted)
        with pytest.raises(PrecisionError, match="INT8 does not give the same picture as FP32"):
            make_int8(sensitive_bundle, sets)
        assert len(opened) > 30
        for graph in single(sensitive_bundle).values():
            assert opened.count(graph) == 1  # whatever is in INT8 beside it


class _AnyRange(dict):
    def __missing__(self, key):
        return _AnyRange() if key in ("mask", "restore") else 1e-6

    def get(self, key, default=None):
        return self[key]


class TestFloat16:
    def test_it_passes_the_same_gate_and_tells_the_largest_activations(
        self, sensitive_bundle, sets
    ):
        record = make_float16_on(sensitive_bundle, sets).to_json()
        assert record["gate"]["margin_db"] > 30
        largest = record["largest_activations"]
        assert len(largest) == 5
        assert list(largest.values()) == sorted(largest.values(), reverse=True)

    def test_the_largest_activation_of_a_node_is_what_numpy_finds(self, sensitive_bundle, sets):
        from m2a.calibration.recording import showing_tensors
        from m2a.runtime.images import read_photo
        from m2a.runtime.pixels import check_pixels
        from m2a.runtime.windows import PaddedPicture

        largest = largest_activations(sensitive_bundle, sets.calibrating)
        graphs = single(sensitive_bundle)
        model = onnx.load_model_from_string(graphs["mask"])
        node = next(node for node in model.graph.node if node.op_type == "Conv")
        seen = []
        graphs["mask"] = showing_tensors(graphs["mask"], [node.output[0]])
        deblurrer = open_graphs(
            sensitive_bundle,
            graphs,
            precision="fp32",
            recorded={"mask": ([node.output[0]], lambda v: seen.append(v[node.output[0]]))},
        )
        for photo in sets.calibrating:
            deblurrer.predict(PaddedPicture(check_pixels(read_photo(photo.path).pixels)))
        expected = max(float(np.abs(values).max()) for values in seen)
        assert largest[f"mask/{node.name}"] == pytest.approx(expected, rel=1e-6)
        assert any(name.startswith("restore/") for name in largest)
        assert not any("sigmoid" in name for name in largest)  # FP32 there

    def test_photos_without_blur_are_refused(self, sensitive_bundle, sets):
        with pytest.raises(UsageError, match=r"no motion blur was found in any of 4 photos"):
            largest_activations(replace(sensitive_bundle, threshold=1.0), sets.calibrating)

    def test_what_is_not_a_number_is_as_good_as_infinite(self, sensitive_bundle, sets, monkeypatch):
        """A single bias, so that most values of the tensor are numbers."""
        model = onnx.load_model_from_string(sensitive_bundle.graph("restore", precision="fp32"))
        bias = next(t for t in model.graph.initializer if len(t.dims) == 1 and t.data_type == 1)
        values = numpy_helper.to_array(bias).copy()
        values[-1] = np.nan
        bias.CopyFrom(numpy_helper.from_array(values, bias.name))
        graphs = {**single(sensitive_bundle), "restore": model.SerializeToString()}
        monkeypatch.setattr(Bundle, "graph", lambda _, name, *, precision: graphs[name])
        # The pipeline refuses results that are not finite; what is lost within never gets there.
        monkeypatch.setattr("m2a.runtime.restoration.all_finite", lambda values: True)
        largest = largest_activations(sensitive_bundle, sets.calibrating[:1])
        assert math.inf in largest.values()
        with pytest.raises(PrecisionError, match=r"\|x\| up to inf"):
            check_activations(largest)

    def test_more_than_30_000_is_refused_by_name(self):
        check_activations({"mask/fits": 29_999.0})
        with pytest.raises(PrecisionError, match=r"mask/large \(\|x\| up to 4e\+04\)"):
            check_activations({"mask/large": 40_000.0, "mask/fits": 1.0})
