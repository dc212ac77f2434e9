"""Twice as many photos as a service can deblur, for a minute: `python tests/load/overload.py`.

Starts `m2a serve`, measures how many photos a second it answers, then sends twice as many, at
random times as independent clients would, and watches its memory. It exits with 1 where something
else than 200, 429 or 503 came back, a connection broke, an accepted photo took longer than
`--within` at the 95th percentile, or memory grew by more than a tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
from click import echo
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

HEADERS = {"Content-Type": "image/jpeg"}


def example(width: int, height: int) -> bytes:
    """The example photo in that size, as a JPEG."""
    with Image.open(ROOT / "examples" / "shuttle.png") as photo:
        resized = photo.convert("RGB").resize((width, height))
    stream = io.BytesIO()
    resized.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def resident(pid: int) -> float:
    """Megabytes of a process in memory."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


async def post(client: httpx.AsyncClient, photo: bytes) -> tuple[int | str, float]:
    """Status, or what broke, and seconds."""
    began = time.perf_counter()
    try:
        status = (await client.post("/v1/deblur", content=photo, headers=HEADERS)).status_code
    except httpx.HTTPError as error:
        status = type(error).__name__
    return status, time.perf_counter() - began


async def capacity(client: httpx.AsyncClient, photo: bytes, *, clients: int, seconds: float):
    """Photos a second where `clients` send one after the other."""
    end = time.perf_counter() + seconds
    done = 0

    async def one() -> None:
        nonlocal done
        while time.perf_counter() < end:
            status, _ = await post(client, photo)
            assert status == 200, status
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    return done / (time.perf_counter() - began)


async def overload(client: httpx.AsyncClient, photo: bytes, *, rate: float, seconds: float):
    """Sends `rate` photos a second; statuses and seconds of all."""
    sent = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sent.append(asyncio.create_task(post(client, photo)))
        await asyncio.sleep(random.expovariate(rate))
    return await asyncio.gather(*sent)


async def measure(address: str, pid: int, options: argparse.Namespace) -> bool:
    """Prints what it bears; returns whether that is what it promises."""
    photo = example(*options.size)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(
        base_url=address, timeout=120, limits=limits, trust_env=False
    ) as client:
        await capacity(client, photo, clients=4, seconds=8)  # the memory that it will keep
        alone = sorted([(await post(client, photo))[1] for _ in range(5)])[2]
        can = await capacity(client, photo, clients=4, seconds=15)
        before = resident(pid)
        answers = await overload(client, photo, rate=2 * can, seconds=options.seconds)
        after = resident(pid)
        well = (await client.get("/healthz")).status_code == 200
    statuses = Counter(status for status, _ in answers)
    accepted = sorted(seconds for status, seconds in answers if status == 200)
    refused = sorted(seconds for status, seconds in answers if status in (429, 503))
    half, most = (accepted[int(share * (len(accepted) - 1))] for share in (0.5, 0.95))
    echo(f"photo: {options.size[0]}x{options.size[1]}, {len(photo) / 1000:.0f} kB")
    echo(f"alone: {alone:.2f} s; capacity: {can:.2f} photos/s")
    echo(f"sent: {len(answers)} in {options.seconds:g} s, {2 * can:.2f}/s; {dict(statuses)}")
    echo(f"accepted: {len(accepted) / options.seconds:.2f}/s, p50 {half:.2f} s, p95 {most:.2f} s")
    if refused:
        echo(f"refused: p95 after {1000 * refused[int(0.95 * (len(refused) - 1))]:.0f} ms")
    echo(f"memory: {before:.0f} MB before, {after:.0f} MB after")
    return (
        well
        and set(statuses) <= {200, 429, 503}
        and most <= options.within
        and after < 1.1 * before
    )


def main() -> int:
    """Starts the service and measures it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--within", type=float, default=10, help="seconds at the 95th percentile")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"))
    parser.add_argument("options", nargs="*", help="of m2a serve, after --")
    options = parser.parse_args()
    command = [sys.executable, "-m", "m2a", "serve", "--port", "0", *options.options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
        try:
            line = next(line for line in service.stderr if line.startswith("http://"))
            echo(line.strip())
            kept = asyncio.run(measure(line.split(": ")[0], service.pid, options))
        finally:
            service.terminate()
        service.stderr.read()
    echo(f"exit code of the service: {service.returncode}")
    return 0 if kept and service.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
