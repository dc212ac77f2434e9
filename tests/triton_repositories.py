"""Model repositories as `m2a triton` writes them."""

from __future__ import annotations

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from m2a.files import write_folder
from m2a.triton.repository import Order, repository_files


def files_of(bundle, **changes) -> dict[str, bytes]:
    """The files of a repository of a bundle's defaults, with changes to the order."""
    settings = {
        "backend": "onnx",
        "precision": "fp32",
        "threshold": bundle.threshold,
        "dilate": bundle.dilate,
        "max_pixels": 10**6,
        "max_memory": None,
        "threads": None,
        "instances": 1,
        "version": 1,
    }
    return repository_files(bundle, Order(**{**settings, **changes}))


def written(bundle, folder, **changes):
    """Writes a repository and returns its folder."""
    write_folder(folder, files_of(bundle, **changes))
    return folder


def config_of(files, model) -> ModelConfig:
    """A model's configuration, by Triton's schema, which refuses what it does not know."""
    return text_format.Parse(files[f"{model}/config.pbtxt"].decode(), ModelConfig())
