"""What the models `m2a` and `m2a_file` share: `m2a.runtime` around the two graphs.

Pad, mask, threshold and dilate, tables, patches, restore, scatter: all of it is `Deblurrer`'s, so
that a picture comes out as `m2a run` writes it. Only who computes the graphs differs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from m2a.errors import ImageError, M2AError, UsageError
from m2a.graphs.contract import CONTRACTS
from m2a.runtime.arguments import check_active
from m2a.runtime.backends import Array, Runner, open_runners
from m2a.runtime.bundle import GRAPHS, Bundle, open_bundle
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.decoding import counted_pixels
from m2a.runtime.loading import allowed_memory
from m2a.runtime.pixels import Pixels
from m2a.runtime.result import Result
from m2a.triton.models.runner import TritonRunner
from m2a.triton.settings import BUNDLE, IN_PROCESS, StitchSettings, part_name

__all__ = ["StitchingModel"]

Request = Any
"""`pb_utils.InferenceRequest`, which has no types."""


class StitchingModel:
    """A model of Triton's Python backend; a model of its own says what goes in and comes out.

    Attributes:
        max_pixels: the most pixels accepted, as `counted_pixels` counts them.
    """

    def initialize(self, args: Mapping[str, str]) -> None:
        """Called by the server when it loads the model.

        Args:
            args: `model_config` in JSON, `model_repository` (the model's own folder),
                `model_version` and what else the server tells.

        Raises:
            M2AError: the configuration or the bundle beside the model is damaged.
        """
        config = json.loads(args["model_config"])
        settings = StitchSettings.from_parameters(config["parameters"])
        version = args["model_version"]
        bundle = open_bundle(Path(args["model_repository"]) / version / BUNDLE)
        mask, restore = _runners(settings, bundle, version=int(version))
        self._deblurrer = Deblurrer(
            bundle,
            mask=mask,
            restore=restore,
            precision=settings.precision,
            threshold=settings.threshold,
            dilate=settings.dilate,
            ensemble=settings.ensemble,
            max_memory=allowed_memory(bundle, settings.max_memory),
            threads=settings.threads,
        )
        self.max_pixels = settings.max_pixels

    def execute(self, requests: Sequence[Request]) -> list[Any]:
        """Called by the server: answers each request, with its outputs or with an error."""
        return [self._respond(request) for request in requests]

    def answer(self, request: Request) -> dict[str, Array]:
        """Returns the outputs by name, at least those that the request asks for.

        Raises:
            ImageError: the input is not a picture.
            UsageError: an option is out of range.
            M2AError: something else failed.
        """
        raise NotImplementedError

    def deblur(self, request: Request, image: Pixels) -> Result:
        """Deblurs a picture with the options of a request; arguments and errors as `Deblurrer`."""
        height, width = image.shape[:2]
        if counted_pixels(width, height) > self.max_pixels:
            raise ImageError(
                f"found {width}x{height} pixels, expected at most {self.max_pixels}; the parameter "
                "'max_pixels' of config.pbtxt raises the limit"
            )
        deblurrer = copy(self._deblurrer)  # shares graphs, threads and buffers
        deblurrer.threshold = _option(request, "threshold", deblurrer.threshold)
        deblurrer.dilate = int(_option(request, "dilate", deblurrer.dilate))
        check_active(deblurrer.threshold, deblurrer.dilate)
        return deblurrer(image)

    def _respond(self, request: Request) -> Any:  # noqa: ANN401 - pb_utils.InferenceResponse
        wanted = request.requested_output_names()
        try:
            outputs = self.answer(request)
        except (ImageError, UsageError) as error:
            return _refusal(error, pb_utils.TritonError.INVALID_ARG)
        except M2AError as error:
            return _refusal(error, pb_utils.TritonError.INTERNAL)
        except MemoryError:
            return _refusal("out of memory", pb_utils.TritonError.UNAVAILABLE)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, outputs[name]) for name in outputs if name in wanted]
        )


def input_of(request: Request, name: str) -> Array:
    """An input of a request; the server has checked that it is there, its type and its rank."""
    return np.asarray(pb_utils.get_input_tensor_by_name(request, name).as_numpy())


def _option(request: Request, name: str, default: float) -> float:
    """An optional input of one number."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy()[0].item()


def _runners(settings: StitchSettings, bundle: Bundle, *, version: int) -> Sequence[Runner]:
    if settings.graphs == IN_PROCESS:
        graphs = [bundle.graph(name, precision=settings.precision) for name in GRAPHS]
        return open_runners(graphs, backend="ort-cpu", threads=settings.threads)
    return [
        TritonRunner(
            part_name(name),
            version=version,
            outputs=[port.name for port in CONTRACTS[name].outputs],
        )
        for name in GRAPHS
    ]


def _refusal(message: object, code: Any) -> Any:  # noqa: ANN401 - pb_utils has no types
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(message), code))
