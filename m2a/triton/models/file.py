"""The model `m2a_file`: the bytes of a picture file go in, those of the deblurred one come out."""

from __future__ import annotations

import numpy as np

from m2a.runtime.backends import Array
from m2a.runtime.decoding import decode_photo
from m2a.runtime.encoding import suffix_of
from m2a.runtime.output import encoded_output
from m2a.runtime.settings import Settings
from m2a.triton.models.stitching import Request, StitchingModel, input_of

__all__ = ["TritonPythonModel"]

ORIGIN = "the input 'file'"


class TritonPythonModel(StitchingModel):
    """Inputs and outputs stand in `m2a.triton.configuration.FILE`.

    The format, its quality and the metadata are the input's, as `m2a run` has them for an output
    of the input's suffix: PNG for a format that is read only.
    """

    def answer(self, request: Request) -> dict[str, Array]:
        """See `StitchingModel.answer`."""
        (content,) = input_of(request, "file")
        photo = decode_photo(content, origin=ORIGIN, max_pixels=self.max_pixels)
        result = self.deblur(request, photo.pixels)
        outputs: dict[str, Array] = {"mask": result.mask, "motion": result.motion}
        if "file" in request.requested_output_names():
            encoded = encoded_output(
                Settings(),
                photo,
                pixels=result.image,
                mask=result.mask,
                suffix=suffix_of(photo.format),
                origin="the output",
            )
            outputs["file"] = np.array([encoded], dtype=np.object_)
        return outputs
