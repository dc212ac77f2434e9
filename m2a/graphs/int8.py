"""The INT8 variant of an FP32 graph (DESIGN section 6): Q/DQ where runtimes fuse it.

In INT8 are the convolutions of the mask graph and, of the restoration graph, the products over
gathered rows, which hold most of its arithmetic and nearly all the bytes that it moves, and the 1×1
products whose result is added to features. In FP32 stay the first product, of the picture's own
values, norms, gates, residual connections, trajectories and the final residual.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from m2a.errors import PrecisionError
from m2a.graphs.bias_gemm import fuse_biases
from m2a.graphs.int8_convolutions import convolutions, quantize_convolutions
from m2a.graphs.int8_products import products, quantize_products


def quantizable(model: onnx.ModelProto) -> dict[str, str]:
    """What can be computed in INT8: name of a weight → the tensor that it multiplies."""
    return convolutions(model.graph) | products(model.graph)


def to_int8(
    model: onnx.ModelProto, ranges: Mapping[str, float], *, keep: Collection[str] = ()
) -> onnx.ModelProto:
    """Returns the INT8 variant of a graph that keeps the contract.

    Args:
        model: `mask` or `restore` in FP32, with its weights; not changed.
        ranges: tensor → the largest |x| to keep, for each tensor that `quantizable` names.
        keep: names of weights that stay in FP32.

    Returns:
        The same graph with the same ports, float32 and int32 at its border.

    Raises:
        PrecisionError: a tensor has no range, or one that is not finite; all are named.
    """
    wanted = {x for name, x in quantizable(model).items() if name not in keep}
    refused = sorted(x for x in wanted if not 0 <= ranges.get(x, -1.0) < float("inf"))
    if refused:
        raise PrecisionError(
            f"calibration gave no finite range of the tensors {', '.join(refused)}; calibrate again"
        )
    variant = onnx.ModelProto()
    variant.CopyFrom(model)
    quantize_convolutions(variant, ranges, keep=keep)
    quantize_products(variant, ranges, keep=keep)
    fuse_biases(variant)
    onnx.checker.check_model(variant, full_check=True)
    return variant
