"""Which precision is computed where nobody asked for one."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from m2a.calibration import add_variant, make_float16
from m2a.errors import UsageError
from m2a.runtime.backends import NAMES
from m2a.runtime.bundle import PACKAGED, open_bundle
from m2a.runtime.loading import load, open_bundle_on, precision_on
from m2a.runtime.precision import ORDERS, candidates, choose_precision, is_verified


@pytest.fixture(scope="module")
def verified(tiny_bundle, tmp_path_factory):
    """A bundle with an FP16 variant, which was judged before it was written."""
    bundle = open_bundle(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("v") / "bundle"))
    return add_variant(bundle, make_float16(bundle))


def without_record(bundle):
    return replace(bundle, manifest={**bundle.manifest, "variants": {}})


def test_int8_of_the_packaged_bundle_is_made_in_a_copy():
    words = r"`cp -r .*bundled m2a-bundle && m2a calibrate PHOTOS --bundle m2a-bundle` makes them"
    with pytest.raises(UsageError, match=words):
        load(PACKAGED, precision="int8")


def test_int8_needs_the_record_of_a_gate(verified):
    record = {"errors": {}}
    for more, expected in (({}, False), ({"gate": {"photos": 3}}, True)):
        described = replace(
            verified,
            graphs={**verified.graphs, "int8": verified.graphs["fp16"]},
            manifest={**verified.manifest, "variants": {"int8": {**record, **more}}},
        )
        assert is_verified(described, "int8") is expected


def test_every_backend_has_an_order_that_ends_with_fp32():
    assert set(ORDERS) == set(NAMES)
    assert all(order[-1] == "fp32" for order in ORDERS.values())


def test_on_a_cpu_it_is_fp32_whatever_else_there_is(verified):
    assert load(verified.path).precision == "fp32"
    opened = load(verified.path)
    assert opened.precision_reason.startswith("fp32 unless asked: on a CPU")
    assert load(verified.path, precision="fp16").precision_reason == "asked for"


def test_on_a_gpu_it_is_the_best_that_was_verified(verified, tiny_bundle):
    assert choose_precision(verified, "ort-cuda").precision == "fp16"
    plain = open_bundle(tiny_bundle)
    chosen = choose_precision(plain, "ort-cuda")
    assert chosen.precision == "fp32"
    assert "no verified fp16" in chosen.reason


def test_without_the_record_of_a_judgement_a_variant_is_not_verified(verified):
    assert is_verified(verified, "fp16")
    assert not is_verified(verified, "int8")
    assert not is_verified(without_record(verified), "fp16")
    assert candidates(without_record(verified), "tensorrt") == ("fp32",)


def test_engines_decide_where_they_compute(verified, monkeypatch):
    import m2a.engines.deblurrer as gpu
    from m2a.errors import EngineError

    def choose(bundle, *, precision, machine):
        if precision != "fp16":
            raise EngineError("none")

    monkeypatch.setattr(gpu, "choose_engines", choose)
    assert precision_on(verified, "tensorrt", "auto").precision == "fp16"
    chosen = precision_on(without_record(verified), "tensorrt", "auto")
    assert (chosen.precision, chosen.reason) == ("fp32", "no verified engines that run here")


@pytest.mark.parametrize("backend", ["ort-cuda", "ort-tensorrt", "tensorrt"])
def test_what_falls_back_chooses_again_for_who_computes(verified, monkeypatch, backend):
    import m2a.engines.deblurrer as gpu

    # The engines of FP16 would run, but the GPU cannot be used.
    monkeypatch.setattr(gpu, "choose_engines", lambda *_, **__: None)
    if backend == "tensorrt":
        assert precision_on(verified, backend, "auto").precision == "fp16"
    opened = load(verified.path, backend=backend, allow_fallback=True)
    assert (opened.backend, opened.precision) == ("ort-cpu", "fp32")
    assert opened.precision_reason.startswith("fp32 unless asked: on a CPU")
    assert opened.fallback_reason
    asked = load(verified.path, backend=backend, allow_fallback=True, precision="fp16")
    assert (asked.precision, asked.precision_reason) == ("fp16", "asked for")


def test_the_slow_reference_and_unknown_backends_are_what_they_were(verified):
    assert open_bundle_on(verified, optimize=False).precision == "fp32"
    with pytest.raises(UsageError, match="unknown backend"):
        precision_on(verified, "cuda", "auto")
