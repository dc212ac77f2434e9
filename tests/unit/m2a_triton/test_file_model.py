"""The model `m2a_file` without a server: what the server's module gives is made up."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from pictures import noise, pillow

import m2a
from m2a.errors import ImageError

MODULES = ("file", "runner", "stitching")


@pytest.fixture
def model(tiny_bundle, monkeypatch):
    """The model as `initialize` leaves it; what it imported is forgotten afterwards."""
    server = ModuleType("triton_python_backend_utils")
    server.get_input_tensor_by_name = lambda request, name: request.inputs.get(name)
    monkeypatch.setitem(sys.modules, server.__name__, server)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, f"m2a.triton.models.{name}", raising=False)
    model = importlib.import_module("m2a.triton.models.file").TritonPythonModel()
    model._deblurrer, model.max_pixels = m2a.load(tiny_bundle), 10**6
    yield model
    for name in MODULES:
        sys.modules.pop(f"m2a.triton.models.{name}", None)


def tensor(value):
    return SimpleNamespace(as_numpy=lambda: value)


@pytest.mark.parametrize("format_", ["JPEG", "WebP"])
def test_a_lossy_file_of_which_nothing_is_restored_comes_back_as_it_is(model, format_):
    content = pillow(noise(3, 8, height=40, width=50), format_, quality=60)
    inputs = {
        "file": tensor(np.array([content], np.object_)),
        "threshold": tensor(np.array([1], np.float32)),
    }
    request = SimpleNamespace(inputs=inputs, requested_output_names=lambda: ["file", "mask"])
    outputs = model.answer(request)
    assert not outputs["mask"].any()
    assert outputs["file"].tolist() == [content]


def test_an_array_counts_as_what_it_is_padded_to(model):
    request = SimpleNamespace(inputs={})
    model.max_pixels = 3200
    narrow = np.zeros((100, 1, 3), np.uint8)
    assert model.deblur(request, narrow).image.shape == narrow.shape
    model.max_pixels -= 1
    with pytest.raises(ImageError, match="found 1x100 pixels"):
        model.deblur(request, narrow)
