"""What makes an output what it is: the model, and the options that change its bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from m2a.runtime.bundle import GRAPHS, Bundle
from m2a.runtime.settings import Settings

__all__ = ["Recipe", "recipe_of"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides an output beside its photo; who computes it differs by rounding alone.

    Attributes:
        model: SHA-256 over the graphs of the precision, in hexadecimal digits.
        precision: of the bundle's graphs.
        threshold: a pixel is active where its probability is at least this.
        dilate: radius in pixels of the dilation.
        ensemble: turns of a picture over which the mean is taken.
        mask: `FULL` where all pixels are restored; None where they are predicted.
        suffix: of all outputs; None leaves the source's.
        quality: of JPEG, WebP and AVIF; None as the source.
        strip_metadata: whether EXIF, XMP and IPTC are left out.
    """

    model: str
    precision: str
    threshold: float
    dilate: int
    ensemble: int
    mask: str | None
    suffix: str | None
    quality: int | None
    strip_metadata: bool

    @property
    def sha256(self) -> str:
        """Of all fields, in hexadecimal digits."""
        fields = asdict(self)
        if self.ensemble == 1:
            # Recipes from before there were ensembles do not tell, and are the same.
            del fields["ensemble"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def recipe_of(
    bundle: Bundle,
    settings: Settings,
    *,
    precision: str,
    threshold: float | None,
    dilate: int | None,
    ensemble: int,
    suffix: str | None,
) -> Recipe:
    """The recipe of a bundle and the options of a run; None takes the bundle's own value.

    Raises:
        BundleError, UsageError: as `Bundle.graph`.
    """
    graphs = [bundle.graph(name, precision=precision) for name in GRAPHS]
    hashes = "".join(hashlib.sha256(graph).hexdigest() for graph in graphs)
    return Recipe(
        model=hashlib.sha256(hashes.encode()).hexdigest(),
        precision=precision,
        threshold=bundle.threshold if threshold is None else threshold,
        dilate=bundle.dilate if dilate is None else dilate,
        ensemble=ensemble,
        mask=settings.mask,
        suffix=None if suffix is None else suffix.lower(),
        quality=settings.quality,
        strip_metadata=settings.strip_metadata,
    )
