"""A real Triton server, started and asked.

`nvidia-pytriton` carries one for the CPU, with the Python backend and no other. Its Python must
have NumPy 1 (with NumPy 2 the server takes every array of Python's for an empty one) and is found
by `PATH` alone, so it lives in a virtual environment of its own, as CONTRIBUTING says.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sysconfig
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

FOLDER = "M2A_TRITON_SERVER"
"""The environment variable that names the virtual environment with nvidia-pytriton."""

REQUIRED = "M2A_REQUIRE_TRITON"
"""The one under which a missing server is a failure: CI sets it."""

SECONDS_TO_START = 60

PARTS = Path(__file__).with_name("triton_part.py")
"""A model that computes an ONNX graph in the Python backend."""


class Server(NamedTuple):
    """A server that answers; `client` is a `tritonclient.grpc.InferenceServerClient`."""

    client: object
    address: str
    repository: Path


class Installation(NamedTuple):
    """Where the server and its Python are."""

    environment: Path
    server: Path
    stub: Path


def find_installation() -> Installation:
    """The installation; the test is skipped, or fails under `REQUIRED`, where there is none."""
    if FOLDER not in os.environ:
        _missing(f"${FOLDER} does not name an environment with nvidia-pytriton; see CONTRIBUTING")
    environment = Path(os.environ[FOLDER])
    found = sorted(environment.glob("lib/python3.*/site-packages/pytriton/tritonserver"))
    if not found:
        _missing(f"{environment} has no nvidia-pytriton")
    version = found[0].parents[2].name.removeprefix("python")
    stub = found[0] / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        _missing(f"nvidia-pytriton has no backend for Python {version}")
    return Installation(environment, found[0], stub)


def _missing(what: str) -> NoReturn:
    if os.environ.get(REQUIRED):
        pytest.fail(f"${REQUIRED} is set, but {what}")
    pytest.skip(what)


@contextmanager
def running(repository: Path, work: Path, *, explicit: bool = False):
    """Starts a server on a repository, waits until it is ready, and stops it.

    Args:
        repository: the model repository.
        work: an empty folder.
        explicit: whether clients may load and unload models.
    """
    from tritonclient.grpc import InferenceServerClient

    installed = find_installation()
    backend = work / "backends" / "python"
    backend.mkdir(parents=True)
    for file in [*(installed.server / "backends" / "python").iterdir(), installed.stub]:
        (backend / file.name).symlink_to(file)
    port = _free_port()
    command = [
        *(installed.server / "bin" / "tritonserver", "--model-repository", repository),
        *("--backend-directory", backend.parent, "--disable-auto-complete-config"),
        *("--grpc-address", "127.0.0.1", "--grpc-port", port),
        *("--allow-http=false", "--allow-metrics=false"),
        *(("--model-control-mode=explicit", "--load-model=*") if explicit else ()),
    ]
    log = work / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            list(map(str, command)), env=_environment(installed), stdout=stream, stderr=stream
        )
    client = InferenceServerClient(f"127.0.0.1:{port}")
    try:
        _wait(client, process, log)
        yield Server(client, f"127.0.0.1:{port}", repository)
    finally:
        client.close()
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def stand_in_for_onnx_runtime(repository: Path) -> None:
    """Has the Python backend compute the graphs of a repository, all else as it was written."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    for name in ("m2a_mask", "m2a_restore"):
        place = repository / name / "config.pbtxt"
        config = text_format.Parse(place.read_text(), model_config_pb2.ModelConfig())
        config.backend = "python"
        config.ClearField("default_model_filename")
        config.ClearField("optimization")
        place.write_text(text_format.MessageToString(config))
        for version in filter(Path.is_dir, (repository / name).glob("[0-9]*")):
            (version / "model.py").write_bytes(PARTS.read_bytes())


def _environment(installed: Installation) -> dict[str, str]:
    # The interpreter inside the backend looks for `python3` and takes what is installed there.
    return {
        **os.environ,
        "PATH": f"{installed.environment / 'bin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": ":".join(
            filter(None, [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")])
        ),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(client, process: subprocess.Popen, log: Path) -> None:
    from tritonclient.utils import InferenceServerException

    last = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < last and process.poll() is None:
        try:
            if client.is_server_ready():
                return
        except InferenceServerException:
            pass  # it does not listen yet
        time.sleep(0.1)
    said = log.read_text(errors="replace")[-4000:]
    pytest.fail(f"the server did not get ready (exit code {process.poll()}):\n{said}")
