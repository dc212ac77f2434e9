"""What is missing is named at once, before any work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from m2a.errors import MissingDependencyError
from m2a.extras import check_extras, missing_packages


@pytest.fixture
def without(monkeypatch):
    """Hides modules, as if they were not installed."""

    def hide(*modules):
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)

    return hide


def test_all_that_is_missing_is_named_with_one_command(without):
    without("onnxsim", "onnxruntime", "torch")
    with pytest.raises(MissingDependencyError) as caught:
        check_extras("cpu", "export", purpose="Exporting")
    assert caught.value.packages == ("onnxruntime", "torch", "onnxsim")
    assert str(caught.value) == (
        "Exporting needs the packages 'onnxruntime', 'torch', 'onnxsim', which are not installed. "
        "Install in the folder of m2a: pip install -e '.[cpu,export]'"
    )


def test_an_extra_that_is_there_is_not_in_the_command(without):
    without("skimage")
    with pytest.raises(MissingDependencyError, match=r"'scikit-image', which is .*'\.\[eval\]'$"):
        check_extras("cpu", "eval", purpose="Measuring")


def test_another_build_of_the_same_module_counts(without):
    without("matplotlib")
    assert missing_packages("gpu") == []
    assert missing_packages("bench", only=["onnx"]) == []
    assert missing_packages("bench") == ["matplotlib"]


PHOTO = str(Path(__file__).resolve().parents[2] / "examples" / "shuttle.png")


@pytest.mark.parametrize(
    ("arguments", "hidden", "extras"),
    [
        (["export", "--ckpt", "a.pth"], ["torch", "onnxscript"], ["'.[export]'"]),
        (
            ["train", "a.toml", "--photos", "p", "-o", "r"],
            ["cv2", "tensorboard", "pytorch_optimizer"],
            ["'.[train]'"],
        ),
        (["eval", "known"], ["skimage", "onnxruntime"], ["'.[cpu,eval]'"]),
        (["eval", "known", "--ckpt", "a.pth"], ["skimage", "torch"], ["'.[export,eval]'"]),
        (["bench", "--plot", "a.png"], ["matplotlib", "onnx"], ["'.[bench]'"]),
        (
            ["run", PHOTO, "-o", "b.png", "--backend", "tensorrt"],
            ["filelock", "onnx", "pycuda", "tensorrt"],
            ["'.[tensorrt]'", "The backend 'tensorrt'"],
        ),
        (["synth", "photos", "-o", "out"], ["cv2"], ["'.[train]'"]),
        (["synth", "a", "-o", "b", "--recipe", "c"], ["cv2", "torch"], ["'.[train]'"]),
        (
            ["build-engine"],
            ["tensorrt", "tensorrt_rtx", "filelock", "onnx"],
            ["'.[tensorrt]'", "'.[tensorrt-rtx]'", "--target", "JetPack"],
        ),
    ],
)
def test_a_command_names_everything_before_any_work(tmp_path, arguments, hidden, extras):
    """In a process of its own, in which the packages cannot be imported."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden!r})); from m2a.cli import main; "
        f"main({arguments!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    # Beside the line that says which bundle is taken.
    assert len([line for line in done.stderr.splitlines() if line.startswith("m2a: ")]) == 1
    names = {"cv2": "opencv-python-headless", "skimage": "scikit-image"}
    names["tensorrt_rtx"] = "tensorrt-rtx"
    assert all(names.get(module, module) in done.stderr for module in hidden)
    assert all(extra in done.stderr for extra in extras)
    assert not list(tmp_path.iterdir())
