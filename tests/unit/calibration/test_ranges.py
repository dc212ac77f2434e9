"""Ranges: of what the pipeline really computes, in pieces, and never from a stale cache."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from m2a.calibration import range_cache
from m2a.calibration import ranges as ranges_module
from m2a.calibration.photos import choose_photos
from m2a.calibration.range_cache import cached_ranges
from m2a.calibration.ranges import METHODS, Ranges, _Calibrator, measure_ranges, tensors_of
from m2a.calibration.recording import open_graphs, showing_tensors
from m2a.errors import UsageError
from m2a.graphs.int8 import quantizable
from m2a.runtime.images import read_photo
from m2a.runtime.parts import smallest_memory
from m2a.runtime.pixels import check_pixels
from m2a.runtime.windows import PaddedPicture


@pytest.fixture
def calibrating(photos):
    return choose_photos(photos).calibrating


def seen_values(bundle, photos):
    """The slow reference: every value of every tensor, kept."""
    graphs = {name: bundle.graph(name, precision="fp32") for name in ("mask", "restore")}
    tensors = {n: sorted(set(quantizable(onnx.load_model_from_string(g)).values()))
               for n, g in graphs.items()}  # fmt: skip
    seen = {}

    def record(values):
        for name, value in values.items():
            seen.setdefault(name, []).append(np.abs(value).reshape(-1))

    deblurrer = open_graphs(
        bundle,
        {name: showing_tensors(graphs[name], tensors[name]) for name in graphs},
        precision="fp32",
        recorded={name: (tensors[name], record) for name in graphs},
    )
    for photo in photos:
        picture = PaddedPicture(check_pixels(read_photo(photo.path).pixels))
        mask = deblurrer.active(deblurrer.predict(picture))
        deblurrer.restore(picture, mask, restoration=deblurrer.gathered)
    return {name: np.concatenate(values) for name, values in seen.items()}


def test_minmax_keeps_the_largest_value_of_all_photos(sensitive_bundle, calibrating):
    ranges = measure_ranges(sensitive_bundle, calibrating, method="minmax").largest
    values = seen_values(sensitive_bundle, calibrating)
    found = {**ranges["mask"], **ranges["restore"]}
    assert found.keys() == values.keys()
    for name, largest in found.items():
        assert largest == pytest.approx(values[name].max(), rel=1e-6), name


def every_fifth(tensors_of):
    return lambda bundle: {name: found[::5] for name, found in tensors_of(bundle).items()}


@pytest.mark.parametrize("method", [name for name in METHODS if name != "minmax"])
def test_the_others_leave_out_no_more_than_a_tail(
    sensitive_bundle, calibrating, method, monkeypatch
):
    if method == "entropy":  # its search takes half a second a tensor: of every fifth
        monkeypatch.setattr(ranges_module, "tensors_of", every_fifth(tensors_of))
    ranges = measure_ranges(sensitive_bundle, calibrating, method=method).largest
    values = seen_values(sensitive_bundle, calibrating)
    for name, largest in {**ranges["mask"], **ranges["restore"]}.items():
        assert largest <= values[name].max() * 1.02, name  # a bin's width
        assert (values[name] > largest).mean() < 0.05, name


def test_entropy_clips_an_outlier_wherever_it_comes():
    random = np.random.default_rng(0)
    pieces = [random.normal(size=4000).astype(np.float32) for _ in range(4)]
    pieces[0][0] = 20
    found = []
    for order in (pieces, pieces[::-1]):
        with _Calibrator(["x"], "entropy") as calibrator:
            for piece in order:
                calibrator.add({"x": piece})
            found.append(calibrator.largest()["x"])
    assert 1 < found[0] < 10
    assert found[1] == pytest.approx(found[0], rel=0.1)


def test_the_parts_of_a_photo_come_in_one_by_one(sensitive_bundle, photos, tmp_path):
    """With the least memory a photo comes in parts, whose overlap shifts no largest value."""
    from PIL import Image

    large = np.random.default_rng(0).integers(0, 256, (320, 480, 3)).astype(np.uint8)
    Image.fromarray(large).save(tmp_path / "large.png")
    photo = replace(choose_photos(photos).calibrating[0], path=tmp_path / "large.png")
    least = smallest_memory(sensitive_bundle.network)
    parts, whole = (
        measure_ranges(sensitive_bundle, [photo], method="minmax", max_memory=memory).largest
        for memory in (least, 2**30)
    )
    for name, tensors in whole.items():
        for tensor, largest in tensors.items():
            # Where a part ends inside the picture, its halo sees padding instead.
            assert parts[name][tensor] == pytest.approx(largest, rel=0.3), tensor


@pytest.mark.parametrize("share", [0.5, 1.5, 20])
def test_what_is_shown_counts_as_memory_too(sensitive_bundle, calibrating, monkeypatch, share):
    """It takes several times what the graphs take; the least that is possible stays possible."""
    given = []

    def opened(*arguments, max_memory, **options):
        given.append(max_memory)
        return open_graphs(*arguments, max_memory=max_memory, **options)

    monkeypatch.setattr("m2a.calibration.ranges.open_graphs", opened)
    least = smallest_memory(sensitive_bundle.network)
    allowed = int(share * least)
    if share < 1:
        with pytest.raises(UsageError, match="needs at least"):
            measure_ranges(sensitive_bundle, calibrating, method="minmax", max_memory=allowed)
        return
    measure_ranges(sensitive_bundle, calibrating, method="minmax", max_memory=allowed)
    assert given == [max(least, allowed // 4)]


def test_photos_without_blur_are_refused(sensitive_bundle, calibrating):
    with pytest.raises(UsageError, match=r"no motion blur was found in any of 4 photos"):
        measure_ranges(replace(sensitive_bundle, threshold=1.0), calibrating, method="minmax")


class TestCache:
    @pytest.fixture
    def measured(self, monkeypatch):
        """How often ranges are measured, instead of measuring them."""
        calls = []

        def measure(bundle, photos, **options):
            calls.append(options["method"])
            largest = {"mask": {"a": 1.0}, "restore": {"b": float(len(calls))}}
            return Ranges(largest=largest, restored=tuple(range(len(photos))))

        monkeypatch.setattr(range_cache, "measure_ranges", measure)
        return calls

    def ask(self, bundle, photos, folder, method="minmax", told=None):
        told = [] if told is None else told
        return cached_ranges(bundle, photos, method=method, folder=folder, progress=told.append)

    def test_the_same_question_is_measured_once(
        self, sensitive_bundle, calibrating, tmp_path, measured
    ):
        answers = [self.ask(sensitive_bundle, calibrating, tmp_path / "cache") for _ in range(2)]
        assert answers[0] == answers[1]
        assert measured == ["minmax"]

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            (lambda b, p, m: (b, p[1:]), "photos, photos_sha256"),
            (lambda b, p, m: (b, p[::-1]), "photos_sha256"),
            (lambda b, p, m: (replace(b, threshold=0.123), p), "threshold"),
            (lambda b, p, m: (replace(b, dilate=1), p), "dilate"),
            (lambda b, p, m: m.setattr(range_cache, "__version__", "0") or (b, p), "versions"),
        ],
    )
    def test_a_stale_one_is_refused_and_measured_anew(
        self, sensitive_bundle, calibrating, tmp_path, measured, monkeypatch, change, word
    ):
        self.ask(sensitive_bundle, calibrating, tmp_path)
        other = change(sensitive_bundle, calibrating, monkeypatch)
        told = []
        assert self.ask(*other, tmp_path, told=told).largest["restore"] == {"b": 2.0}
        assert f"stale, of other {word}" in told[0]

    def test_one_of_before_its_digest_was_noted_is_stale(
        self, sensitive_bundle, calibrating, tmp_path, measured
    ):
        self.ask(sensitive_bundle, calibrating, tmp_path)
        (file,) = tmp_path.glob("*.json")
        stored = json.loads(file.read_text())
        del stored["sha256"]
        file.write_text(json.dumps(stored))
        told = []
        self.ask(sensitive_bundle, calibrating, tmp_path, told=told)
        assert "they are stale, of an earlier m2a" in told[0]
        assert len(measured) == 2

    def test_another_method_has_its_own(self, sensitive_bundle, calibrating, tmp_path, measured):
        for method in ("minmax", "entropy", "minmax"):
            self.ask(sensitive_bundle, calibrating, tmp_path, method)
        assert measured == ["minmax", "entropy"]

    def test_a_changed_figure_is_noticed(self, sensitive_bundle, calibrating, tmp_path, measured):
        """It is a range still, of the same question, and not the one that was measured."""
        self.ask(sensitive_bundle, calibrating, tmp_path)
        (file,) = tmp_path.glob("*.json")
        changed = file.read_text().replace('"b": 1.0', '"b": 7.0')
        assert changed != file.read_text()
        file.write_text(changed)
        told = []
        assert self.ask(sensitive_bundle, calibrating, tmp_path, told=told).largest["restore"] == {
            "b": 2.0
        }
        assert "the file is damaged (its content has another SHA-256" in told[0]

    def test_ranges_of_other_tensors_are_stale(
        self, sensitive_bundle, calibrating, tmp_path, measured, monkeypatch
    ):
        self.ask(sensitive_bundle, calibrating, tmp_path)
        monkeypatch.setattr(range_cache, "tensors_of", lambda bundle: {"mask": ["a"]})
        told = []
        self.ask(sensitive_bundle, calibrating, tmp_path, told=told)
        assert "stale, of other tensors_sha256" in told[0]
        assert len(measured) == 2

    @pytest.mark.parametrize("content", ["", "[]", "{}", "range", "count"])
    def test_a_damaged_one_is_measured_anew(
        self, sensitive_bundle, calibrating, tmp_path, measured, content
    ):
        self.ask(sensitive_bundle, calibrating, tmp_path)
        (file,) = tmp_path.glob("*.json")
        stored = json.loads(file.read_text())
        if content in ("range", "count"):  # of a writer that signs what it should not
            if content == "range":
                stored["ranges"]["mask"]["a"] = float("inf")
            else:
                stored["restored"].pop()
            del stored["sha256"]
            content = json.dumps({**stored, "sha256": range_cache._digest(stored)})
        file.write_text(content)
        told = []
        self.ask(sensitive_bundle, calibrating, tmp_path, told=told)
        assert len(measured) == 2
        assert "are not used" in told[0]
