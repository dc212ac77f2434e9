from __future__ import annotations

import json
import sys

import pytest

pytest.importorskip("tritonclient.grpc")

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig


def config_of(repository, model):
    return text_format.Parse((repository / model / "config.pbtxt").read_text(), ModelConfig())


def test_a_repository_is_written_with_the_options_given(invoke, tmp_path):
    done = invoke(
        *("triton", "-o", "repository", "--threshold", "0.25", "--dilate", 2, "--instances", 3),
        *("--ensemble", 2),
        *("--max-memory", "3GiB", "--max-pixels", 1000, "--model-version", 4),
    )
    assert done.exit_code == 0, done.output
    assert "m2a, m2a_file, m2a_mask, m2a_restore" in done.output
    config = config_of(tmp_path / "repository", "m2a")
    found = {name: value.string_value for name, value in config.parameters.items()}
    expected = {"threshold": "0.25", "dilate": "2", "max_pixels": "1000", "graphs": "server"}
    expected["ensemble"] = "2"
    assert {**expected, "max_memory": str(3 * 2**30)}.items() <= found.items()
    assert config.instance_group[0].count == 3
    assert (tmp_path / "repository" / "m2a_mask" / "4" / "model.onnx").exists()


def test_threshold_and_dilation_are_the_bundles_unless_told(invoke, tmp_path):
    invoke("triton", "-o", "repository")
    parameters = config_of(tmp_path / "repository", "m2a_file").parameters
    assert (parameters["threshold"].string_value, parameters["dilate"].string_value) == ("0.5", "4")


def test_an_older_repository_is_replaced_only_on_demand(invoke, tmp_path):
    assert invoke("triton", "-o", "repository").exit_code == 0
    refused = invoke("triton", "-o", "repository", "--backend", "python")
    assert refused.exit_code == 2
    assert "give --overwrite" in refused.output
    assert (tmp_path / "repository" / "m2a_mask").exists()
    done = invoke("triton", "-o", "repository", "--backend", "python", "--overwrite", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["models"] == ["m2a", "m2a_file"]
    assert not (tmp_path / "repository" / "m2a_mask").exists()


def test_what_fails_leaves_the_older_one(invoke, tmp_path):
    invoke("triton", "-o", "repository")
    before = (tmp_path / "repository" / "m2a-repository.json").read_bytes()
    failed = invoke("triton", "-o", "repository", "--backend", "tensorrt", "--overwrite")
    assert failed.exit_code == 1
    assert "m2a build-engine --fp32" in failed.output
    assert (tmp_path / "repository" / "m2a-repository.json").read_bytes() == before


def test_without_the_extra_it_is_named(invoke, monkeypatch):
    for module in ("repository", "configuration"):
        monkeypatch.delitem(sys.modules, f"m2a.triton.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    failed = invoke("triton", "-o", "repository")
    assert failed.exit_code == 1
    assert "pip install -e '.[triton]'" in failed.output
