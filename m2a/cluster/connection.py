"""The Ray cluster that a run works on, and the actors that it has room for."""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from m2a.errors import ClusterError, on_one_line
from m2a.machine.cores import usable_cores

__all__ = ["LOCAL", "Actors", "cluster_at", "fitting_actors"]

LOCAL = "local"
"""The address for which Ray is started on this machine, and ended with the run."""

_OBJECT_STORE = 2**30
"""Bytes of the local Ray's object store: some photos ahead of the actors, not many."""

_PATIENCE = 10.0
"""Seconds in which the machine of an address must answer."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # it would print on standard output that a worker died
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Read when Ray is imported or started: nothing goes to its makers, or between our lines."""


@dataclass(frozen=True, kw_only=True)
class Actors:
    """The actors of a run.

    Attributes:
        count: how many.
        threads: cores that each computes on.
        gpus: GPUs that each takes; a half puts two on one.
    """

    count: int
    threads: int
    gpus: float


@contextmanager
def cluster_at(address: str) -> Iterator[None]:
    """Connects to a Ray cluster, or starts one on this machine, for the time of the block.

    A program that is connected already stays so: the address is then not looked at.

    Args:
        address: `LOCAL`, or what `ray.init` takes, as in `10.0.0.1:6379` or `auto`.

    Raises:
        ClusterError: there is no cluster, or it does not start.
    """
    _check_reachable(address)
    for name, value in (_QUIET | (_with_token() if address == LOCAL else {})).items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == LOCAL:
        options |= {
            "num_cpus": usable_cores(),
            "object_store_memory": _OBJECT_STORE,
            "include_dashboard": False,
        }
    try:
        with _silent_standard_error():
            ray.init(address, **options)
    except (RuntimeError, ValueError, OSError) as error:
        raise _no_cluster(address, error) from error
    try:
        yield
    finally:
        ray.shutdown()


def _with_token() -> dict[str, str]:
    """Ray listens on every network of the machine, and runs what it is sent: only by this token."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes, and say nothing."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> ClusterError:
    return ClusterError(
        f"--ray: found no cluster to work with at {address!r}: {on_one_line(error)}; expected "
        "HOST:PORT of `ray start --head`, `auto`, or no address to start Ray on this machine"
    )


@contextmanager
def _silent_standard_error() -> Iterator[None]:
    """Without what Ray's C++ part says of its own log level, to the descriptor itself."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no path, a device
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def fitting_actors(count: int | None, *, threads: int, gpus: float) -> Actors:
    """The actors that fit the cluster that is connected.

    Args:
        count: how many; None for as many as fit now.
        threads: cores that each takes.
        gpus: GPUs that each takes.

    Raises:
        ClusterError: it has no room for one.
    """
    import ray

    resources = ray.cluster_resources()
    cores = resources.get("CPU", 0.0)
    room = int(cores // threads)
    if gpus:
        room = min(room, math.floor(resources.get("GPU", 0.0) / gpus + 1e-6))
    if room < 1:
        found = f"{cores:g} cores and {resources.get('GPU', 0.0):g} GPUs"
        raise ClusterError(
            f"found {found} in the cluster, expected {threads} and {gpus:g} for an actor; lower "
            "--threads or --gpus-per-actor"
        )
    # More than fit now are allowed where they are asked for: the cluster may grow.
    return Actors(count=room if count is None else count, threads=threads, gpus=gpus)
