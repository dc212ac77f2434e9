"""`m2a bench` on tiny pictures: what it measures, never how long it takes."""

from __future__ import annotations

import json
import sys
from itertools import combinations

import pytest
from click.testing import CliRunner
from PIL import Image

from m2a.benchmark.analysis import Growth
from m2a.benchmark.measure import COMPUTED
from m2a.cli import main
from m2a.commands import bench_command
from m2a.commands.bench_command import _where_dense_pays
from m2a.machine.cores import usable_cores


def run(*arguments):
    return CliRunner().invoke(main, ["bench", "--repeats", "2", *map(str, arguments)])


SMALL = ("--sizes", "64x32", "--coverages", "5,25,100")


@pytest.fixture(scope="module")
def result(tiny_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    found = run(
        *SMALL,
        *("--bundle", tiny_bundle, "--threads", 1, "--json"),
        *("--plot", folder / "growth.png", "--save", folder / "saved.json"),
    )
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout), folder


def test_every_stage_of_every_coverage_is_timed(result):
    content, _ = result
    assert [m["case"] for m in content["measured"]] == ["64x32 5%", "64x32 25%", "64x32 100%"]
    for measured in content["measured"]:
        dense = measured["coverage"] == 1
        # Where all is restored, it is restored densely.
        computed = [stage for stage in COMPUTED if not dense or stage not in ("tables", "patches")]
        assert set(measured["stages"]) == {"decode", *computed, "encode"}
        assert all(stage["median"] > 0 for stage in measured["stages"].values())
        stages = [measured["stages"][stage]["median"] for stage in computed]
        # Medians do not add up exactly, but a stage that is left out or counted twice would show.
        assert 0.5 * sum(stages) < measured["total"]["median"] < 2 * sum(stages)
        if dense:
            assert measured["tables_share"] is measured["products_and_gathers"] is None
        else:
            assert measured["tables_share"] > 0
            assert measured["products_and_gathers"] > 0


def test_rates_dense_and_limit_stand_beside_it(result):
    content, _ = result
    assert content["matmul_gflop_per_s"] > 0
    assert content["dense"][0]["size"] == [32, 64]
    for measured in content["measured"]:
        expected = measured["rate"] / content["matmul_gflop_per_s"]
        assert measured["share_of_limit"] == pytest.approx(expected)
    (growth,) = content["growth"]
    assert [entry["coverage"] for entry in growth["dense_ratio"]] == pytest.approx(
        [0.05, 0.25, 1.0], abs=1e-3
    )
    assert content["environment"]["onnxruntime"]


def test_the_plot_is_a_picture_and_the_saved_result_a_baseline(result, tiny_bundle):
    content, folder = result
    with Image.open(folder / "growth.png") as picture:
        assert picture.size[0] > 500
    stored = json.loads((folder / "saved.json").read_text())
    assert stored["measured"] == content["measured"]
    for measured in stored["measured"]:
        measured["total"]["p75"] = 1e-9
    (folder / "fast.json").write_text(json.dumps(stored))
    common = (*SMALL, "--bundle", tiny_bundle, "--threads", 1, "--baseline")
    slower = run(*common, folder / "fast.json")
    assert slower.exit_code == 1
    assert slower.stdout.count("slower: ") == 3
    for measured in stored["measured"]:
        measured["total"]["p75"] = 1e9
    (folder / "slow.json").write_text(json.dumps(stored))
    assert run(*common, folder / "slow.json").exit_code == 0


def test_a_photo_is_timed_under_its_predicted_mask(tiny_bundle, tmp_path):
    photo = tmp_path / "photo.png"
    Image.effect_noise((70, 50), 80).convert("RGB").save(photo)
    found = run(photo, "--bundle", tiny_bundle, "--json")
    assert found.exit_code == 0, found.output
    (measured,) = json.loads(found.stdout)["measured"]
    assert measured["size"] == [50, 70]
    assert measured["case"] == str(photo)


def test_the_threads_that_computed_are_told(tiny_bundle):
    found = run("--sizes", "64x32", "--coverages", "5", "--bundle", tiny_bundle, "--json")
    assert json.loads(found.stdout)["threads"] == usable_cores()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sizes", "64"), "expected sizes such as"),
        (("--sizes", "0x64"), "expected sizes such as"),
        (("--coverages", "a"), "expected percentages"),
        (("--coverages", "0"), "above 0 to 100"),
        (("--coverages", "101"), "above 0 to 100"),
        (("--backend", "tensorrt"), "expected one of ort-cpu"),
    ],
)
def test_misuse_is_told_in_one_line(tiny_bundle, arguments, message):
    found = run("--bundle", tiny_bundle, *arguments)
    assert found.exit_code == 2
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1


@pytest.fixture
def unmeasured(monkeypatch):
    """What is refused has not been measured first."""

    def refuse(*_, **__):
        pytest.fail("measured")

    monkeypatch.setattr(bench_command, "measure", refuse)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "is not a benchmark that m2a saved"),
        ({"threads": 7}, "was measured with"),
        ({"measured": []}, "has none of these pictures"),
    ],
)
def test_a_baseline_is_refused_before_measuring(
    result, tiny_bundle, tmp_path, unmeasured, change, message
):
    _, folder = result
    baseline = tmp_path / "before.json"
    if change is not None:
        stored = json.loads((folder / "saved.json").read_text())
        baseline.write_text(json.dumps({**stored, **change}))
    found = run(*SMALL, "--bundle", tiny_bundle, "--threads", 1, "--baseline", baseline)
    assert found.exit_code == 2
    assert message in found.stderr


@pytest.mark.parametrize("pair", [*combinations(("--plot", "--save", "--baseline"), 2)])
def test_one_file_is_not_two(tiny_bundle, tmp_path, unmeasured, pair):
    path = tmp_path / "file"
    path.write_text("mine")
    one, other = pair
    again = tmp_path / "." / tmp_path.name / ".." / "file"
    (tmp_path / tmp_path.name).mkdir()
    found = run("--bundle", tiny_bundle, "--overwrite", one, path, other, again)
    assert found.exit_code == 2
    assert f"for {one} and for {other}" in found.stderr
    assert path.read_text() == "mine"


def test_a_plot_that_cannot_be_drawn_is_refused_before_measuring(
    tiny_bundle, tmp_path, unmeasured, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "m2a.benchmark.plot", raising=False)
    found = run("--bundle", tiny_bundle, "--plot", tmp_path / "growth.png")
    assert found.exit_code == 1
    assert "Drawing a benchmark needs the package" in found.stderr


def test_nothing_is_replaced_unasked(tiny_bundle, tmp_path):
    kept = tmp_path / "saved.json"
    kept.write_text("mine")
    found = run(*SMALL, "--bundle", tiny_bundle, "--save", kept)
    assert found.exit_code == 2
    assert kept.read_text() == "mine"


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ({0.1: 5.0, 1.0: 1.02}, "dense is slower at all of these coverages"),
        ({0.1: 5.0, 1.0: 1.003}, "dense is as fast at 100%, and slower below"),
    ],
)
def test_a_ratio_that_is_printed_as_one_is_no_slower(ratios, said):
    growth = Growth(
        size=(8, 8), precision="fp32", r_squared=None, dense_ratio=ratios, crossover=None
    )
    assert _where_dense_pays(growth) == said
