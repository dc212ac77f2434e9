"""How a command opens the bundle that it computes with: one set of options, one place that opens.

The runtime is imported where it is used: `m2a COMMAND --help` does without it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from m2a.commands.options import (
    backend_options,
    bundle_option,
    chosen_bundle,
    ensemble_option,
    precision_option,
    resource_options,
)
from m2a.errors import on_one_line

if TYPE_CHECKING:
    from m2a.runtime import loading as runtime
    from m2a.runtime.bundle import Bundle
    from m2a.runtime.deblurrer import Deblurrer

__all__ = ["Opening", "opening_options", "tell_fallback"]


@dataclass(frozen=True, kw_only=True)
class Opening:
    """Which bundle computes, and how; the meaning of each is that of `m2a.load`.

    Attributes:
        bundle: the bundle's directory; None to find one, also in the working directory.
        backend: who computes the graphs.
        allow_fallback: use `ort-cpu` where the backend cannot be used.
        precision: which of the bundle's graphs; `auto` for the best verified ones.
        threshold: a pixel is active from this probability; None for the bundle's.
        dilate: radius in pixels by which the mask is widened; None for the bundle's.
        ensemble: turns of a picture over which the mean is taken.
        max_memory: bytes that the graphs may take at a time; None for a share of what is free.
        threads: that compute; None for the cores that the process may use.

    Raises:
        UsageError: a value is out of range, whatever the bundle: before that is opened.
    """

    bundle: Path | None
    backend: str
    allow_fallback: bool
    precision: str = "auto"
    threshold: float | None
    dilate: int | None
    ensemble: int = 1  # not every command has the option
    max_memory: int | None
    threads: int | None

    def __post_init__(self) -> None:
        from m2a.runtime.arguments import check_active
        from m2a.runtime.backends import check_backend
        from m2a.runtime.ensemble import check_ensemble

        check_backend(self.backend)
        check_active(self.threshold, self.dilate)
        check_ensemble(self.ensemble)

    def find(self) -> Bundle:
        """Opens the bundle and says on standard error which it is, where it was not named.

        Raises:
            BundleError: it is missing or damaged.
        """
        return chosen_bundle(self.bundle)

    def open(self, bundle: Bundle | None = None) -> Deblurrer:
        """Opens the graphs, of a bundle that was found already or of the one that `find` finds.

        Where another backend computes than was asked for, it is said on standard error.

        Raises:
            M2AError: as `m2a.load`.
        """
        deblurrer = self.without_bundle().open(self.find() if bundle is None else bundle)
        tell_fallback(deblurrer)
        return deblurrer

    def without_bundle(self) -> runtime.Opening:
        """The same for any bundle, as it goes to other machines."""
        from m2a.runtime.loading import Opening

        return Opening(**{field.name: getattr(self, field.name) for field in fields(Opening)})


def tell_fallback(deblurrer: Deblurrer) -> None:
    """Says on standard error why a fallback computes, where one does."""
    if deblurrer.fallback_reason is not None:
        reason = on_one_line(deblurrer.fallback_reason)
        click.echo(f"m2a: {deblurrer.backend} computes instead: {reason}", err=True)


def opening_options(
    *, precision: bool = True, ensemble: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of an `Opening`, which the command gets as its argument `opening`.

    Args:
        precision: whether `--precision` is among them; a command that computes in several has an
            option of its own.
        ensemble: whether `--ensemble` is.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_opening(*args: Any, **given: Any) -> Any:  # noqa: ANN401 - the command's own
            names = [field.name for field in fields(Opening) if field.name in given]
            opening = Opening(**{name: given.pop(name) for name in names})
            return command(*args, opening=opening, **given)

        options: list[Callable[..., Any]] = [bundle_option, backend_options]
        options += [precision_option] if precision else []
        options += [_active_options]
        options += [ensemble_option] if ensemble else []
        options += [resource_options]
        return functools.reduce(lambda done, option: option(done), reversed(options), with_opening)

    return decorate


def _active_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--threshold P` and `--dilate N`."""
    threshold = click.option(
        "--threshold",
        type=float,
        help="A pixel is restored where its blur probability is at least this. "
        "[default: the model's]",
    )
    dilate = click.option(
        "--dilate", type=int, help="Pixels by which the mask is widened. [default: the model's]"
    )
    return threshold(dilate(command))
