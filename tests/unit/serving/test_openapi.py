"""The service keeps what its OpenAPI document says: schemathesis finds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from service import Inverting, running

TESTS = Path(__file__).parents[2]

EXAMPLES = os.environ.get("M2A_SCHEMATHESIS_EXAMPLES", "10")
"""Per route; the suite has little time."""


@pytest.mark.parametrize("token", [None, "secret"])
def test_schemathesis_finds_nothing(token, tmp_path):
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "schemathesis_photos",
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
        "NO_PROXY": "*",
    }
    with running(Inverting(), workers=2, token=token) as client:
        command = [Path(sys.executable).parent / "schemathesis", "run", "--checks", "all"]
        command += ["--max-examples", EXAMPLES, "--no-color", "--seed", "1"]
        if token is not None:
            command += ["--phases", "coverage", "-H", f"Authorization: Bearer {token}"]
        done = subprocess.run(
            [*command, f"{client.base_url}/openapi.json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        assert "No issues found" in done.stdout
        assert client.get("/readyz").json()["busy"] == 0


def test_the_document_names_every_problem_and_only_ours(client):
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {"/", "/healthz", "/metrics", "/readyz", "/v1/deblur"}
    statuses = set(document["paths"]["/v1/deblur"]["post"]["responses"])
    expected = "200 400 403 408 413 415 421 422 429 500 503 504"
    assert statuses == set(expected.split())
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert "securitySchemes" not in document["components"]


def test_with_a_token_it_says_where_it_is_asked_for():
    with running(Inverting(), token="secret") as client:
        document = client.get("/openapi.json").json()
    guarded = {
        path
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if operation.get("security") == [{"token": []}] and "401" in operation["responses"]
    }
    assert guarded == {"/v1/deblur", "/metrics"}
