"""A real server answers with the pixels of `m2a run`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

pytest.importorskip("tritonclient.grpc")

from triton_repositories import written
from triton_server import find_installation, running, stand_in_for_onnx_runtime
from tritonclient import grpc, utils

import m2a
from m2a.cli import main
from m2a.runtime.bundle import open_bundle
from m2a.runtime.parts import smallest_memory

CLIENT = Path(__file__).parents[3] / "examples" / "triton_client.py"

VERSION = 3
"""Not 1: a stitching model must ask the graphs of its own version."""

pytestmark = pytest.mark.usefixtures("installation")


@pytest.fixture(scope="session")
def installation():
    """Before all others, so that nothing is exported for a server that is not there."""
    return find_installation()


@pytest.fixture(scope="module")
def server(installation, tiny_bundle, tmp_path_factory):
    """A repository for Triton's ONNX Runtime, which our server lacks: the graphs run in Python.

    All else is as it was written, and the memory so small that a picture is stitched from parts.
    """
    bundle = open_bundle(tiny_bundle)
    place = tmp_path_factory.mktemp("server")
    repository = written(
        bundle,
        place / "repository",
        max_memory=smallest_memory(bundle.network),
        instances=2,
        version=VERSION,
        dilate=0,
    )
    stand_in_for_onnx_runtime(repository)
    with running(repository, place, explicit=True) as server:
        yield server


@pytest.fixture(scope="module")
def python_server(installation, tiny_bundle, tmp_path_factory):
    """A repository for the Python backend alone, untouched."""
    place = tmp_path_factory.mktemp("python-server")
    repository = written(open_bundle(tiny_bundle), place / "repository", backend="python", dilate=0)
    with running(repository, place) as server:
        yield server


@pytest.fixture(scope="module")
def deblur(tiny_bundle):
    return m2a.load(tiny_bundle, dilate=0)


def ask(server, model, outputs=None, **inputs):
    """What a model answers: output → array."""
    tensors = []
    for name, array in inputs.items():
        tensor = grpc.InferInput(name, list(array.shape), utils.np_to_triton_dtype(array.dtype))
        tensors.append(tensor.set_data_from_numpy(array))
    wanted = outputs and [grpc.InferRequestedOutput(name) for name in outputs]
    result = server.client.infer(model, tensors, outputs=wanted)
    return {o.name: result.as_numpy(o.name) for o in result.get_response().outputs}


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def bytes_of(*content):
    return np.array(content, dtype=np.object_)


def requests_to(server, model, version=VERSION):
    """How often a graph was asked, its warm-up included: see `triton_part`."""
    return (server.repository / model / str(version) / "asked").stat().st_size


@pytest.mark.parametrize("shape", [(300, 410, 3), (33, 1, 1), (40, 50, 2), (64, 64, 4)])
def test_a_picture_has_the_pixels_of_the_runtime(server, deblur, shape):
    image = noise(*shape)
    expected = deblur(image)
    assert 0.1 < expected.coverage < 0.9
    before = requests_to(server, "m2a_mask"), requests_to(server, "m2a_restore")

    found = ask(server, "m2a", image=image)

    np.testing.assert_array_equal(found["image"], expected.image)
    np.testing.assert_array_equal(found["mask"], expected.mask)
    np.testing.assert_array_equal(found["motion"], expected.motion)
    # Through the server, not around it; and the large one in parts.
    after = requests_to(server, "m2a_mask"), requests_to(server, "m2a_restore")
    parts = [end - begin for begin, end in zip(before, after, strict=True)]
    assert sum(parts) > 2 if shape[0] == 300 else parts == [1, 1]


def test_the_python_backend_alone_gives_the_same(python_server, deblur):
    image = noise(120, 90, 3)
    found = ask(python_server, "m2a", image=image)
    np.testing.assert_array_equal(found["image"], deblur(image).image)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("which", ["server", "python_server"])
def test_a_file_comes_back_as_m2a_run_writes_it(request, which, suffix, tiny_bundle, tmp_path):
    source, output = tmp_path / f"photo{suffix}", tmp_path / f"sharp{suffix}"
    Image.fromarray(noise(70, 90, 3)).save(source, dpi=(200, 200))
    arguments = ["run", str(source), "-o", str(output), "--dilate", "0"]
    arguments += ["--bundle", str(tiny_bundle)]
    assert CliRunner().invoke(main, arguments).exit_code == 0

    found = ask(
        request.getfixturevalue(which), "m2a_file", ["file"], file=bytes_of(source.read_bytes())
    )

    assert list(found) == ["file"]
    assert found["file"][0] == output.read_bytes()


def test_options_of_a_request_go_before_those_of_the_model(server, tiny_bundle):
    image = noise(64, 96, 3)
    options = {"threshold": 0.9, "dilate": 1}
    expected = m2a.load(tiny_bundle, **options)(image)
    assert not np.array_equal(expected.mask, m2a.load(tiny_bundle, dilate=0)(image).mask)
    found = ask(
        server,
        "m2a",
        ["mask"],
        image=image,
        threshold=np.array([0.9], np.float32),
        dilate=np.array([1], np.int32),
    )
    assert list(found) == ["mask"]
    np.testing.assert_array_equal(found["mask"], expected.mask)


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        ("m2a", {"image": noise(8, 8, 5)}, "found an array of uint8 with the shape [8, 8, 5]"),
        ("m2a", {"image": noise(2, 500_001, 1)}, "found 500001x2 pixels, expected at most 1000000"),
        ("m2a", {"image": noise(8, 8, 3), "threshold": np.float32([0])}, "must lie in (0, 1]"),
        ("m2a", {"image": noise(8, 8, 3), "threshold": np.float32([np.nan])}, "lie in (0, 1]"),
        ("m2a", {"image": noise(8, 8, 3), "dilate": np.int32([-1])}, "must not be negative"),
        ("m2a_file", {"file": bytes_of(b"GIF89a")}, "the input 'file': found"),
        ("m2a_file", {"file": bytes_of(b"")}, "'file': found an empty file"),
        ("m2a_file", {"file": bytes_of(b"\xff\xd8\xff")}, "found a damaged or unsupported JPEG"),
    ],
)
def test_what_cannot_be_meant_is_the_callers_error(server, model, inputs, message):
    with pytest.raises(utils.InferenceServerException) as raised:
        ask(server, model, **inputs)
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert message in raised.value.message()


def test_many_at_once_get_their_own(server, deblur):
    images = [noise(40 + 8 * number, 60, 3) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda image: ask(server, "m2a", image=image), images))
    for image, answer in zip(images, found, strict=True):
        np.testing.assert_array_equal(answer["image"], deblur(image).image)


def test_a_graph_that_is_not_loaded_is_named(server, deblur):
    image = noise(32, 32, 3)
    server.client.unload_model("m2a_restore")
    with pytest.raises(utils.InferenceServerException, match="'m2a_restore', version 3") as raised:
        ask(server, "m2a", image=image)
    assert raised.value.status() == "StatusCode.INTERNAL"
    server.client.load_model("m2a_restore")
    np.testing.assert_array_equal(ask(server, "m2a", image=image)["image"], deblur(image).image)


def test_another_version_takes_over_while_the_server_runs(server, deblur):
    """In the order of the guide: the graphs, and then the models that ask them."""
    for model in ("m2a_mask", "m2a_restore", "m2a"):
        folder = server.repository / model
        ours, next_one = folder / str(VERSION), folder / str(VERSION + 1)
        shutil.copytree(ours, next_one, ignore=shutil.ignore_patterns("asked"))
        server.client.load_model(model)
    image = noise(48, 64, 3)
    np.testing.assert_array_equal(ask(server, "m2a", image=image)["image"], deblur(image).image)
    assert requests_to(server, "m2a_mask", VERSION + 1) == 2  # the warm-up was one


def test_the_server_tells_which_bundle_it_has(server):
    parameters = server.client.get_model_config("m2a").config.parameters
    assert parameters["m2a_version"].string_value == m2a.__version__
    assert len(parameters["bundle_sha256"].string_value) == 64


@pytest.mark.parametrize("extra", [[], ["--raw"]])
def test_the_example_client(server, deblur, tmp_path, extra):
    source, output, mask = (tmp_path / name for name in ("photo.png", "sharp.png", "mask.png"))
    Image.fromarray(noise(50, 60, 3)).save(source)
    command = [sys.executable, CLIENT, source, "-o", output, "--url", server.address]
    subprocess.run([*command, "--mask-out", mask, "--threshold", "0.6", *extra], check=True)
    deblur = m2a.load(deblur.bundle.path, dilate=0, threshold=np.float32(0.6).item())
    expected = deblur(source)
    np.testing.assert_array_equal(np.asarray(Image.open(output)), expected.image)
    np.testing.assert_array_equal(np.asarray(Image.open(mask)) > 0, expected.mask)
