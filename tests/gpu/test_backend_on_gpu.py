"""The backend `tensorrt` on a GPU against ONNX Runtime on the CPU; see `test_kernels_on_gpu`.

m2a build-engine --fp32 && python -m pytest -n 0 tests/gpu -v
"""

from __future__ import annotations

import numpy as np
import pytest
from engine_cases import load_gathering
from masks import draw_mask

from m2a.runtime.loading import open_bundle_on
from m2a.runtime.verify import verify

pytestmark = pytest.mark.usefixtures("gpu")


def test_verify_passes(bundle_with_engines):
    deblurrer = open_bundle_on(bundle_with_engines, backend="tensorrt")
    assert verify(bundle_with_engines, deblurrer).failed is None


@pytest.mark.parametrize("shape", [(50, 70, 3), (721, 1083, 4), (333, 64)])
def test_the_result_is_that_of_the_cpu(bundle_with_engines, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    mask = draw_mask("random", *shape[:2], seed=3)
    found = open_bundle_on(bundle_with_engines, backend="tensorrt")(image, mask=mask)
    expected = load_gathering(bundle_with_engines.path)(image, mask=mask)
    assert np.array_equal(found.image[~mask], image[~mask])
    # FP32 sums in another order: at most a change of the rounded level.
    difference = np.abs(found.image.astype(int) - expected.image)
    assert difference.max() <= 1
