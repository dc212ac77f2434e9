"""The command line, run in-process: outputs, exit codes, and one clear line for each misuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2a.cli import _COMMANDS

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "shuttle.png"


def assert_one_line(result, code: int, *words: str) -> None:
    """No traceback, one line beside the one that says which bundle is used, the exit code."""
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("bundle:")]
    assert len(lines) == 1, lines
    for word in words:
        assert word in lines[0]


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_run_leaves_pixels_outside_the_mask_identical(invoke, photo, tmp_path):
    result = invoke("run", photo, "-o", "out.png", "--mask-out", "mask.png", "--threshold", "0.5")
    assert result.exit_code == 0, result.output
    outside = read(tmp_path / "mask.png") == 0
    np.testing.assert_array_equal(read(tmp_path / "out.png")[outside], read(photo)[outside])


def test_json_is_one_object_on_standard_output(invoke, photo):
    result = invoke("run", photo, "-o", "out.png", "--json")
    report = json.loads(result.stdout)
    assert report["backend"] == "ort-cpu"
    assert 0 <= report["coverage"] <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_every_colour_mode_keeps_its_channels_and_alpha(invoke, tmp_path, mode):
    source = tmp_path / "in.png"
    shape = (33, 20, len(mode)) if len(mode) > 1 else (33, 20)
    array = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    Image.fromarray(array, mode=None).save(source)
    assert invoke("run", source, "-o", "out.png", "--mask-in", "full").exit_code == 0
    with Image.open(tmp_path / "out.png") as output:
        assert output.mode == mode
        if mode.endswith("A"):
            np.testing.assert_array_equal(np.asarray(output)[..., -1], array[..., -1])


@pytest.mark.parametrize("size", [(1, 1), (64, 64)])
def test_black_and_smallest_pictures_work(invoke, tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "in.png")
    assert invoke("run", "in.png", "-o", "out.png").exit_code == 0
    assert invoke("run", "in.png", "-o", "full.png", "--mask-in", "full").exit_code == 0
    assert read(tmp_path / "full.png").shape == (size[1], size[0], 3)


def test_a_12_megapixel_photo_with_a_5_percent_mask_works(invoke, tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (3000, 4000, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png", compress_level=0)
    mask = np.zeros((3000, 4000), np.uint8)
    mask[1000:1600, 500:1500] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    result = invoke("run", "in.png", "-o", "out.tif", "--mask-in", "mask.png", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["coverage"] == pytest.approx(0.05)
    changed = (read(tmp_path / "out.tif") != pixels).any(axis=2)
    assert changed.any()
    assert not changed[mask == 0].any()


def test_verify_inspect_and_their_json(invoke):
    verified = invoke("verify", "--json")
    assert verified.exit_code == 0, verified.output
    assert json.loads(verified.stdout)["passed"] is True
    table = invoke("verify").stdout
    assert "ok      largest difference of the probability (0 to 1)" in table
    assert "1.0e+00  ok      largest difference of the finished picture" in table
    assert table.endswith("passed: this bundle computes what the network in torch did\n")
    assert "fp32/mask" in invoke("inspect").stdout
    assert json.loads(invoke("inspect", "--json").stdout)["schema"] == 1


def test_verify_on_a_photo(invoke, photo):
    assert invoke("verify", photo).exit_code == 0


def test_eval_of_what_synth_wrote(invoke, tmp_path):
    from skimage import data

    (tmp_path / "photos").mkdir()
    Image.fromarray(data.astronaut()).save(tmp_path / "photos" / "astronaut.png")
    assert invoke("synth", "photos", "-o", "known", "--count", 2, "--size", 64).exit_code == 0
    report = json.loads(invoke("eval", "known", "--json").stdout)
    assert report["summary"]["pictures"] == 2
    assert (tmp_path / "known" / "contact-sheet.png").is_file()
    again = invoke("synth", "photos", "-o", "known", "--count", 2, "--size", 64)
    assert again.exit_code == 0
    other = invoke("synth", "photos", "-o", "known", "--count", 2, "--size", 32)
    assert other.exit_code == 2
    assert "--overwrite" in other.stderr


def test_synth_takes_a_recipes_samples_and_options_before_them(invoke, tmp_path):
    from skimage import data

    (tmp_path / "photos").mkdir()
    Image.fromarray(data.astronaut()).save(tmp_path / "photos" / "astronaut.png")
    (tmp_path / "recipe.toml").write_text("[synthesis]\nsize = 64\nblur_length = [3, 30]\n")
    command = ("synth", "photos", "-o", "known", "--count", 1, "--recipe", "recipe.toml")
    assert invoke(*command, "--blur-length", 9, 20, "--jpeg", 80, 90).exit_code == 0
    written = json.loads((tmp_path / "known" / "synth.json").read_text())["synthesis"]
    assert written["size"] == 64
    assert written["blur_length"] == [9, 20]
    assert written["jpeg_quality"] == [80, 90]
    assert written["jpeg_probability"] == 1
    assert written["shake_probability"] == 0.08  # the recipe's default


class TestMisuse:
    """Each: one line, exit code 1 or 2, no traceback, no output left behind."""

    @pytest.fixture(autouse=True)
    def _nothing_left_behind(self, invoke, tmp_path):
        yield
        left = {path.name for path in tmp_path.rglob("*")}
        assert not {name for name in left if name.startswith(("out", ".m2a", ".b"))}

    def test_a_text_file_named_jpg(self, invoke, tmp_path):
        (tmp_path / "text.jpg").write_text("not a picture")
        assert_one_line(invoke("run", "text.jpg", "-o", "out.png"), 1, "text.jpg", "JPEG")

    def test_a_truncated_jpeg(self, invoke, photo, tmp_path):
        Image.fromarray(read(photo)).save(tmp_path / "whole.jpg")
        content = (tmp_path / "whole.jpg").read_bytes()
        (tmp_path / "half.jpg").write_bytes(content[: len(content) // 2])
        assert_one_line(invoke("run", "half.jpg", "-o", "out.png"), 1, "half.jpg")

    def test_a_missing_file(self, invoke):
        assert_one_line(invoke("run", "nowhere.jpg", "-o", "out.png"), 2, "nowhere.jpg")

    def test_a_bundle_with_one_byte_changed(self, invoke, photo, tiny_bundle, tmp_path):
        shutil.copytree(tiny_bundle, tmp_path / "damaged")
        graph = tmp_path / "damaged" / "fp32" / "restore.onnx"
        content = bytearray(graph.read_bytes())
        content[len(content) // 2] ^= 1
        graph.write_bytes(content)
        result = invoke("run", photo, "-o", "out.png", "--bundle", "damaged")
        assert_one_line(result, 1, "restore.onnx", "SHA-256")
        assert invoke("inspect", "damaged").exit_code == 1

    def test_a_checkpoint_that_is_not_one(self, invoke, tmp_path):
        (tmp_path / "model.pth").write_text("weights")
        result = invoke("export", "--ckpt", "model.pth", "-o", "out")
        assert result.exit_code == 1
        assert "model.pth: found a file of another kind" in result.stderr.splitlines()[-1]

    def test_an_unknown_backend(self, invoke, photo):
        result = invoke("run", photo, "-o", "out.png", "--backend", "abacus")
        assert_one_line(result, 2, "abacus", "ort-cpu")

    def test_a_backend_that_this_machine_lacks(self, invoke, photo):
        result = invoke("run", photo, "-o", "out.png", "--backend", "ort-tensorrt")
        assert_one_line(result, 1, "TensorrtExecutionProvider")

    def test_an_unsupported_output(self, invoke, photo):
        assert_one_line(invoke("run", photo, "-o", "out.xyz"), 2, ".xyz", ".png")

    def test_a_mask_of_another_size(self, invoke, photo, tmp_path):
        Image.new("L", (3, 3)).save(tmp_path / "mask.png")
        result = invoke("run", photo, "-o", "out.png", "--mask-in", "mask.png")
        assert_one_line(result, 2, "3x3", "50x40")

    @pytest.mark.parametrize(("option", "value"), [("--threshold", "0"), ("--dilate", "-1")])
    def test_values_out_of_range(self, invoke, photo, option, value):
        assert_one_line(invoke("run", photo, "-o", "out.png", option, value), 2)

    def test_a_bundle_that_is_not_there(self, invoke, photo):
        result = invoke("run", photo, "-o", "out.png", "--bundle", "nowhere")
        assert_one_line(result, 2, "nowhere", "m2a export")


def test_an_existing_output_is_kept_without_overwrite(invoke, photo, tmp_path):
    (tmp_path / "out.png").write_text("precious")
    result = invoke("run", photo, "-o", "out.png")
    assert_one_line(result, 2, "--overwrite")
    assert (tmp_path / "out.png").read_text() == "precious"
    assert invoke("run", photo, "-o", "out.png", "--overwrite").exit_code == 0


def test_fallback_only_when_allowed_and_said(invoke, photo):
    result = invoke(
        "run", photo, "-o", "out.png", "--backend", "ort-cuda", "--allow-fallback", "--json"
    )
    assert json.loads(result.stdout)["backend"] == "ort-cpu"


def test_the_command_line_says_which_bundle_it_took(invoke, photo, tiny_bundle, tmp_path):
    assert "$M2A_BUNDLE" in invoke("run", photo, "-o", "1.png").stderr
    shutil.copytree(tiny_bundle, tmp_path / "m2a-bundle")
    assert "$M2A_BUNDLE" in invoke("run", photo, "-o", "2.png").stderr


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_has_help_with_an_example(invoke, command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"m2a {command}" in result.stdout.split("Example:")[1]
