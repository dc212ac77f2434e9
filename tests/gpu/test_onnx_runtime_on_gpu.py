"""The backend `ort-cuda` on a GPU against ONNX Runtime on the CPU.

python -m pytest -n 0 tests/gpu/test_onnx_runtime_on_gpu.py -v
"""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from engine_cases import load_gathering
from masks import draw_mask

from m2a.machine.cuda_driver import ask_driver
from m2a.runtime.backends import OrtRunner
from m2a.runtime.bundle import find_bundle
from m2a.runtime.loading import open_bundle_on
from m2a.runtime.verify import verify


@pytest.fixture(scope="module", autouse=True)
def _cuda_provider():
    driver = ask_driver()
    if not driver.gpus:
        pytest.skip(f"needs an NVIDIA GPU: {driver.failure or 'the driver offers none'}")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu: pip install -e '.[gpu]'")


@pytest.fixture(scope="module")
def bundle():
    return find_bundle(None, working_directory=False)


@pytest.fixture(scope="module")
def on_gpu(bundle):
    return open_bundle_on(bundle, backend="ort-cuda")


def test_verify_passes(bundle, on_gpu):
    assert verify(bundle, on_gpu).failed is None


@pytest.mark.parametrize("shape", [(50, 70, 3), (721, 1083, 4), (333, 64)])
def test_the_result_is_that_of_the_cpu(bundle, on_gpu, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    mask = draw_mask("random", *shape[:2], seed=3)
    found = on_gpu(image, mask=mask)
    expected = load_gathering(bundle.path)(image, mask=mask)
    assert np.array_equal(found.image[~mask], image[~mask])
    # FP32 sums in another order: at most a change of the rounded level.
    difference = np.abs(found.image.astype(int) - expected.image)
    assert difference.max() <= 1


def test_the_mask_is_that_of_the_cpu(bundle, on_gpu):
    image = np.random.default_rng(1).random((1, 3, 96, 160), dtype=np.float32)
    graph = bundle.graph("mask", precision="fp32")
    runners = [OrtRunner(graph, backend=name, optimize=True) for name in ("ort-cuda", "ort-cpu")]
    found, expected = (runner.run({"image": image})["mask"] for runner in runners)
    assert np.abs(found - expected).max() < 1e-4


def test_one_picture_does_not_depend_on_the_one_before(on_gpu):
    """Inputs and outputs are bound to buffers that stay on the device."""
    pictures = [
        np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        for seed, shape in enumerate([(64, 96, 3), (128, 64, 3), (64, 96, 3)])
    ]
    masks = [draw_mask("random", *picture.shape[:2], seed=9) for picture in pictures]
    first = on_gpu(pictures[0], mask=masks[0]).image
    for picture, mask in zip(pictures[1:], masks[1:], strict=True):
        on_gpu(picture, mask=mask)
    assert np.array_equal(on_gpu(pictures[0], mask=masks[0]).image, first)
