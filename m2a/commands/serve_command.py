"""`m2a serve`: deblurring over HTTP."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import click
import numpy as np

from m2a.commands.config_file import config_option
from m2a.commands.opening import Opening, opening_options
from m2a.commands.options import EXISTING_OR_NOT, MemorySize
from m2a.errors import UsageError, number_of
from m2a.extras import check_extras
from m2a.machine.cores import usable_cores
from m2a.runtime.backends import extras_of
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.loading import allowed_memory

TOKEN = "M2A_TOKEN"
"""The environment variable of the token."""

MOST_WORKERS = 4
"""By default: more of them need more memory, and leave one large photo fewer cores."""

LONGEST_TOKEN = 4096


@click.command("serve")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on; 0.0.0.0 listens to other machines.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8077, show_default=True, help="0: a free one."
)
@config_option
@opening_options()
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Photos that are computed at a time; they share one model. [default: the cores it may "
    f"use, at most {MOST_WORKERS}]",
)
@click.option(
    "--queue",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    help="Photos that may wait for a worker; the next is refused with 429.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds to wait and to be computed: 503 before, 504 after the computation began.",
)
@click.option(
    "--body-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds in which a photo must have come in, or 408.",
)
@click.option(
    "--max-body",
    type=MemorySize(),
    default="32MiB",
    show_default=True,
    help="The longest body that is read; 413 beyond.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=2**26,
    show_default=True,
    help="Refuse photos of more pixels, from their header, with 413.",
)
@click.option(
    "--token-file",
    type=EXISTING_OR_NOT,
    help=f"A file with the token that every client must send. [default: ${TOKEN}, or none]",
)
@click.option(
    "--allow-origin",
    multiple=True,
    metavar="ORIGIN",
    help="Another site whose scripts may use the service, as https://example.org. Repeatable.",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="A name by which it is reached, through a proxy for instance. Repeatable.",
)
def command(
    host: str,
    port: int,
    opening: Opening,
    workers: int | None,
    queue: int,
    timeout: float,
    body_timeout: float,
    max_body: int,
    max_pixels: int,
    token_file: Path | None,
    allow_origin: tuple[str, ...],
    allow_host: tuple[str, ...],
) -> None:
    """Deblur photos over HTTP, with a page to drop them on.

    POST a photo to /v1/deblur and get it back deblurred; / is the page, /openapi.json describes
    all, /metrics is for Prometheus. It listens to this machine alone unless told otherwise. SIGTERM
    or Ctrl-C ends it when what it took is answered, a second Ctrl-C at once. By default the workers
    share a quarter of the free memory and all cores; --max-memory and --threads set what each of
    them takes.

    \b
    Example:
      m2a serve
      m2a serve --host 0.0.0.0 --port 8080 --token-file token.txt
    """
    check_extras(*extras_of(opening.backend), "serve", purpose="Serving photos")
    from m2a.serving.server import serve
    from m2a.serving.settings import Limits, Settings, is_loopback

    cores = usable_cores()
    workers = workers or min(cores, MOST_WORKERS)
    settings = Settings(
        host=host,
        port=port,
        workers=workers,
        limits=Limits(
            body_bytes=max_body,
            pixels=max_pixels,
            queue=queue,
            body_seconds=body_timeout,
            seconds=timeout,
        ),
        token=_token(token_file),
        allow_origins=allow_origin,
        allow_hosts=allow_host,
    )
    bundle = opening.find()
    shared = replace(
        opening,
        max_memory=allowed_memory(bundle, opening.max_memory, calls=workers),
        threads=opening.threads or max(cores // workers, 1),
    )
    deblurrer = shared.open(bundle)
    _warm_up(deblurrer)
    if settings.token is None and not is_loopback(host):
        click.echo("m2a: no token: whoever reaches the service may use it", err=True)

    def tell(address: str) -> None:
        click.echo(f"{address}: {number_of(workers, 'worker')} on {deblurrer.backend}", err=True)

    try:
        serve(deblurrer, settings, started=tell)
    except KeyboardInterrupt:
        _give_up()
    click.echo("stopped", err=True)


def _give_up() -> NoReturn:
    """Ends the process at once, where Python would wait for the threads that compute."""
    try:
        click.echo("m2a: interrupted", err=True)
        logging.shutdown()
    finally:
        os._exit(130)


def _token(path: Path | None) -> str | None:
    """The token of the file or of the environment; None where there is neither."""
    if path is None:
        token = os.environ.get(TOKEN)
        return token.strip() if token is not None else None
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(LONGEST_TOKEN).strip()
    except FileNotFoundError as error:
        raise UsageError(
            f"--token-file {path}: found no such file, expected a token in it"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise UsageError(f"{path}: the token cannot be read: {why}") from error


def _warm_up(deblurrer: Deblurrer) -> None:
    """Computes once, so that what cannot work is told now, and the first photo does not wait."""
    side = 64
    deblurrer(np.zeros((side, side, 3), np.uint8), mask=np.ones((side, side), bool))
