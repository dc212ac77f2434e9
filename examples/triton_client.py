"""Ask a Triton server with a repository of `m2a triton` to deblur a photo.

    python examples/triton_client.py street.jpg -o street-sharp.jpg --mask-out mask.png

Needs `pip install 'm2a[triton]'`, and m2a itself only for `--raw` and `--mask-out`, which read and
write pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tritonclient import grpc, utils


def infer(
    client: grpc.InferenceServerClient,
    model: str,
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str],
) -> dict[str, np.ndarray]:
    """Asks a model for some of its outputs."""
    tensors = []
    for name, array in inputs.items():
        tensor = grpc.InferInput(name, list(array.shape), utils.np_to_triton_dtype(array.dtype))
        tensors.append(tensor.set_data_from_numpy(array))
    wanted = [grpc.InferRequestedOutput(name) for name in outputs]
    result = client.infer(model, tensors, outputs=wanted)
    return {name: result.as_numpy(name) for name in outputs}


def main() -> None:
    """Reads the arguments, asks, and writes what comes back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--url", default="localhost:8001", help="the server's gRPC port")
    parser.add_argument("--raw", action="store_true", help="send pixels, not the file")
    parser.add_argument("--threshold", type=float, help="in the place of the model's")
    parser.add_argument("--dilate", type=int, help="in the place of the model's, pixels")
    parser.add_argument("--mask-out", type=Path, help="write the restored pixels as a PNG")
    arguments = parser.parse_args()

    inputs: dict[str, np.ndarray] = {}
    if arguments.threshold is not None:
        inputs["threshold"] = np.array([arguments.threshold], np.float32)
    if arguments.dilate is not None:
        inputs["dilate"] = np.array([arguments.dilate], np.int32)
    outputs = ["mask"] if arguments.mask_out else []

    # A picture, as a message, may be larger than gRPC's limit of 4 MiB: the client lifts it.
    with grpc.InferenceServerClient(arguments.url) as client:
        if arguments.raw:
            from m2a.runtime.images import Photo, read_photo, write_photo

            pixels = read_photo(arguments.photo).pixels  # uint8 [H, W, 3], or [H, W, 1] if grey
            found = infer(client, "m2a", {"image": pixels, **inputs}, ["image", *outputs])
            write_photo(arguments.output, Photo(pixels=found["image"]), overwrite=True)
        else:
            content = np.array([arguments.photo.read_bytes()], dtype=np.object_)
            found = infer(client, "m2a_file", {"file": content, **inputs}, ["file", *outputs])
            arguments.output.write_bytes(found["file"][0])
    if arguments.mask_out:
        from m2a.runtime.images import write_mask

        write_mask(arguments.mask_out, found["mask"], overwrite=True)


if __name__ == "__main__":
    main()
