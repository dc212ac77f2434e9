"""`POST /v1/deblur`: what comes back, in which format, with which headers."""

from __future__ import annotations

import io
import json
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from pictures import noise, pillow, png, tiff
from PIL import Image
from service import BUNDLE, Inverting, running

from m2a.runtime import load
from m2a.runtime.bundle import PACKAGED
from m2a.runtime.decoding import decode_photo

ROOT = Path(__file__).resolve().parents[3]

DISPOSITION = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\n'

STAGES = ["read", "wait", "decode", "mask", "restore", "encode"]


def post(client, data, *, media_type="application/octet-stream", **params):
    return client.post(
        "/v1/deblur", content=data, params=params, headers={"Content-Type": media_type}
    )


def pixels(answer):
    with Image.open(io.BytesIO(answer.content)) as image:
        return np.asarray(image)


def inverted(samples):
    out = samples.copy()
    half = samples.shape[1] // 2
    out[:, :half] = np.iinfo(samples.dtype).max - out[:, :half]
    return out


def test_the_answer_is_what_the_model_computes():
    with Image.open(ROOT / "examples" / "shuttle.png") as shuttle:
        samples = np.asarray(shuttle.convert("RGB").crop((330, 40, 490, 136)))
    deblurrer = load(PACKAGED, threads=1)
    expected = deblurrer.with_mask_settings(threshold=0.4, dilate=2)(samples)
    assert 0 < expected.coverage < 1
    with running(deblurrer) as client:
        answer = post(client, png(samples), media_type="image/png", threshold=0.4, dilate=2)
        assert answer.status_code == 200, answer.text
        np.testing.assert_array_equal(pixels(answer), expected.image)
        assert float(answer.headers["m2a-coverage"]) == pytest.approx(expected.coverage, abs=1e-6)
        graphs = deblurrer.bundle.graphs["fp32"]
        for name in ("mask", "restore"):
            assert f"{name}.onnx={graphs[name].sha256}" in answer.headers["m2a-model"]


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (pillow(noise(3, 8), "JPEG"), "image/jpeg"),
        (png(noise(4, 16)), "image/png"),
        (tiff(noise(1, 16)), "image/tiff"),
        (pillow(noise(3, 8), "WebP", lossless=True), "image/webp"),
    ],
)
def test_a_photo_keeps_its_format(client, data, media_type):
    answer = post(client, data)
    assert answer.headers["content-type"] == media_type
    before = decode_photo(data, origin="before")
    after = decode_photo(answer.content, origin="after")
    assert (after.format, after.bits) == (before.format, before.bits)
    if media_type != "image/jpeg":
        np.testing.assert_array_equal(after.pixels, inverted(before.pixels))
        assert (after.alpha is None) == (before.alpha is None)


def test_or_gets_another(client, jpeg):
    answer = post(client, jpeg, format="webp", quality=50)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["content-disposition"] == 'inline; filename="deblurred.webp"'
    assert len(answer.content) < len(post(client, jpeg, format="webp", quality=95).content)


def test_metadata_stays_unless_it_is_left_out(client):
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    data = pillow(noise(3, 8), "JPEG", exif=exif)
    assert b"a secret place" in post(client, data).content
    assert b"a secret place" not in post(client, data, strip_metadata="true").content


def test_mask_motion_and_comparison_are_pictures(client, jpeg):
    mask = post(client, jpeg, output="mask")
    assert mask.headers["content-type"] == "image/png"
    assert (pixels(mask) == np.where(np.arange(64) < 32, 255, 0)).all()
    motion = pixels(post(client, jpeg, output="motion"))
    before = pixels(post(client, jpeg, output="compare"))[:, :64]
    assert (motion[:, 40:] == before[:, 40:]).all()
    assert (motion[:, :32] != before[:, :32]).any()


def test_the_view_holds_what_the_page_shows(client, jpeg):
    answer = post(client, jpeg, output="view")
    view = json.loads(answer.content)
    assert (view["width"], view["height"], view["coverage"]) == (64, 48, 0.5)
    assert b64decode(view["photo"]) == post(client, jpeg).content
    for layer in ("before", "after", "mask"):
        with Image.open(io.BytesIO(b64decode(view[layer]))) as picture:
            assert picture.size == (64, 48)
    assert view["motion"].startswith("M")


def test_a_form_is_taken_as_browsers_send_it(client, jpeg):
    plain = post(client, jpeg)
    form = client.post("/v1/deblur", files={"photo": ("../../x.sh", jpeg, "image/jpeg")})
    assert form.content == plain.content
    assert "x.sh" not in str(form.headers)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"picture": ("a.jpg", b"1", "image/jpeg")}, "found the field 'picture', expected a form"),
        ([("photo", ("a", b"1")), ("photo", ("b", b"2"))], "found several fields"),
        ({"photo": (None, b"text")}, "with one file, 'photo'"),
        ({"photo": ("a" * 9000, b"1")}, "header"),
    ],
)
def test_a_form_of_another_kind_is_not(client, files, words):
    answer = client.post("/v1/deblur", files=files)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_a_damaged_form_is_refused(client):
    for form in (b"--x\r\nnonsense", b"", b"--x--", DISPOSITION, DISPOSITION + b"half a photo"):
        answer = post(client, form, media_type="multipart/form-data; boundary=x")
        assert answer.status_code == 422
        assert "form" in answer.json()["detail"]


@pytest.mark.parametrize("parameter", ["", "; boundary=", f"; boundary={'x' * 257}"])
def test_a_form_needs_a_boundary_that_can_be_one(client, parameter):
    answer = post(client, b"--x", media_type=f"multipart/form-data{parameter}")
    assert answer.status_code == 422
    assert "boundary" in answer.json()["detail"].lower()


def test_a_damaged_form_fills_no_log(client, caplog):
    post(client, b"nonsense", media_type="multipart/form-data; boundary=x")
    assert caplog.records == []


def test_headers_tell_stages_and_backend(client, jpeg):
    headers = post(client, jpeg).headers
    timing = [entry.split(";dur=") for entry in headers["server-timing"].split(", ")]
    assert [name for name, _ in timing] == STAGES
    assert all(float(milliseconds) >= 0 for _, milliseconds in timing)
    assert headers["m2a-backend"] == "ort-cpu"
    assert headers["m2a-coverage"] == "0.500000"
    assert headers["m2a-model"] == f"mask.onnx={'a' * 64}, restore.onnx={'b' * 64}"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"threshold": 0}, "threshold: Input should be greater than 0"),
        ({"threshold": "nan"}, "threshold"),
        ({"dilate": -1}, "dilate"),
        ({"dilate": 1000}, "dilate"),
        ({"quality": 101}, "quality"),
        ({"format": "gif"}, "format: Input should be 'jpeg'"),
        ({"output": "all"}, "output"),
        ({"treshold": 0.5}, "did you mean threshold?"),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(client, jpeg, params, words):
    answer = post(client, jpeg, **params)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 422
    assert problem["title"] == "Unprocessable Content"
    assert words in problem["detail"]


@pytest.mark.parametrize("data", [b"", b"nonsense", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_what_is_no_photo_is_refused(client, data):
    answer = post(client, data)
    assert answer.status_code == 422
    assert "expected one of JPEG" in answer.json()["detail"]


def test_alpha_and_jpeg_do_not_go_together(client):
    answer = post(client, png(noise(4, 8)), format="jpeg")
    assert answer.status_code == 422
    assert "alpha" in answer.json()["detail"]


def test_a_fault_of_ours_is_500_and_tells_nothing(capfd):
    failing = Inverting()
    failing.error = RuntimeError("secret")
    with running(failing) as client:
        answer = post(client, png(noise(3, 8)))
        assert answer.status_code == 500
        assert answer.json()["detail"] == "the service failed; its log tells more"
        assert answer.headers["x-content-type-options"] == "nosniff"
        failing.error = MemoryError()
        answer = post(client, png(noise(3, 8)))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        failing.error = None
        assert post(client, png(noise(3, 8))).status_code == 200
    assert "secret" in capfd.readouterr().err


def test_it_says_that_it_is_well_and_with_which_model(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz").json()
    assert ready["model"]["name"] == BUNDLE.manifest["model"]["name"]
    assert (ready["status"], ready["waiting"], ready["queue"]) == ("ready", 0, 16)


def test_what_is_not_there_is_told_as_a_problem(client):
    for method, path, status in (("GET", "/x", 404), ("GET", "/v1/deblur", 405)):
        answer = client.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["allow"] == "POST"


def test_metrics_count_and_time(jpeg):
    with running(Inverting()) as client:
        post(client, jpeg)
        post(client, jpeg)
        post(client, b"nonsense")
        client.get("/made-up/by/a/client")
        lines = client.get("/metrics").text.splitlines()
    assert 'm2a_requests_total{route="/v1/deblur",status="200"} 2.0' in lines
    assert 'm2a_requests_total{route="/v1/deblur",status="422"} 1.0' in lines
    assert 'm2a_requests_total{route="other",status="404"} 1.0' in lines
    for stage in STAGES:
        assert f'm2a_stage_seconds_count{{stage="{stage}"}} 2.0' in lines
    assert "m2a_coverage_sum 1.0" in lines
    assert f"m2a_pixels_total {2 * 48 * 64:.1f}" in lines
    assert "m2a_queue_length 0.0" in lines
    assert "m2a_busy_workers 0.0" in lines
    assert "m2a_held_bytes 0.0" in lines
    (info,) = (line for line in lines if line.startswith("m2a_info{"))
    assert 'backend="ort-cpu"' in info
    assert 'ensemble="1"' in info
