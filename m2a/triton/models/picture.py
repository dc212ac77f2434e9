"""The model `m2a`: an array goes in, an array comes out."""

from __future__ import annotations

from m2a.runtime.backends import Array
from m2a.triton.models.stitching import Request, StitchingModel, input_of

__all__ = ["TritonPythonModel"]


class TritonPythonModel(StitchingModel):
    """Inputs and outputs stand in `m2a.triton.configuration.PICTURE`."""

    def answer(self, request: Request) -> dict[str, Array]:
        """See `StitchingModel.answer`."""
        result = self.deblur(request, input_of(request, "image"))
        return {"image": result.image, "mask": result.mask, "motion": result.motion}
