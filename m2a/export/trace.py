"""Tracing the network's two deployed parts, and the dense one beside them, to ONNX.

The module wrappers here give the exporter flat, named inputs and keep the models free of export
concerns.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import onnx
import onnxsim
import torch
from torch import Tensor, nn

from m2a.errors import ContractError
from m2a.graphs.contract import ALL_CONTRACTS, IR_VERSION, LEVELS, OPSET, Port, check_contract
from m2a.graphs.int32_indices import gather_with_int32
from m2a.models.dense import DenseRestorer
from m2a.models.gathered import Tables
from m2a.models.mask_predictor import fold_batch_norm, predict_logits
from m2a.models.network import M2AENet
from m2a.models.reparameterize import gathered_restorer


class DeployedMask(nn.Module):
    """The graph `mask`: image → probability, batch norms folded."""

    def __init__(self, network: M2AENet) -> None:
        super().__init__()
        self.predictor = copy.deepcopy(network.mask_predictor).eval()
        self.mirrored = network.config.mask_mirrored
        fold_batch_norm(self.predictor)

    def forward(self, image: Tensor) -> Tensor:
        """Maps f32 [1, 3, H, W] to a probability [1, 1, H, W]."""
        return predict_logits(self.predictor, image, mirrored=self.mirrored).sigmoid()


class DeployedRestore(nn.Module):
    """The graph `restore`: the gathered restorer with flat inputs in the contract's order."""

    def __init__(self, network: M2AENet) -> None:
        super().__init__()
        self.restorer = gathered_restorer(network).eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Maps the inputs of the contract to residual [N_0, 3] and motion [N_2, 4]."""
        restoration = self.restorer(pack(inputs))
        return restoration.residual, restoration.motion


def pack(inputs: tuple[Tensor, ...]) -> Tables:
    """Groups the flat inputs of the contract as `Tables`."""
    links = LEVELS - 1
    patches, rest = inputs[0], inputs[1:]
    return Tables(
        patches,
        rest[:LEVELS],
        rest[LEVELS : LEVELS + links],
        rest[LEVELS + links : LEVELS + 2 * links],
        *rest[LEVELS + 2 * links :],
    )


def trace_mask(network: M2AENet) -> onnx.ModelProto:
    """Exports the mask predictor, simplified and checked against its contract."""
    return _trace(DeployedMask(network), "mask", {"H": 96, "W": 128})


def trace_restore(network: M2AENet) -> onnx.ModelProto:
    """Exports the gathered restorer, simplified and checked against its contract."""
    # Any sizes do, as long as they differ: the exporter unifies dimensions that are equal.
    sizes = {"N0": 23, "N1": 19, "N2": 17, "N3": 13, "P2": 29}
    return _trace(DeployedRestore(network), "restore", sizes)


def trace_dense(network: M2AENet) -> onnx.ModelProto:
    """Exports the branch-fused dense restorer, likewise checked."""
    module = DenseRestorer(copy.deepcopy(network.restorer))
    return _trace(module, "dense", {"H": 96, "W": 128})


def _trace(module: nn.Module, graph: str, sizes: dict[str, int]) -> onnx.ModelProto:
    contract = ALL_CONTRACTS[graph]
    step = 1 if graph == "restore" else 32
    # The exporter takes names like `32*H_` for granted only where a bare dimension is declared.
    dims = {name: torch.export.Dim(f"{name}_") for name in sizes}
    dynamic = {
        port.name: {
            axis: _size(name, dims, step)
            for axis, name in enumerate(port.shape)
            if isinstance(name, str)
        }
        for port in contract.inputs
    }
    shapes: tuple[Any, ...] = tuple(dynamic.values())
    if isinstance(module, DeployedRestore):
        shapes = (shapes,)  # the inputs are one variadic argument
    with _quietly():
        program = torch.onnx.export(
            module.eval(),
            tuple(_example(port, sizes) for port in contract.inputs),
            dynamo=True,
            opset_version=OPSET,
            input_names=[port.name for port in contract.inputs],
            output_names=[port.name for port in contract.outputs],
            dynamic_shapes=shapes,
            verbose=False,
        )
        if program is None:
            raise ContractError(f"the exporter returned no program for the graph {graph!r}")
        simplified: tuple[onnx.ModelProto, bool] = onnxsim.simplify(program.model_proto)
    model, ok = simplified
    if not ok:
        raise ContractError(f"onnxsim could not verify its simplification of the graph {graph!r}")
    gather_with_int32(model)
    _name_dimensions(model, graph)
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    check_contract(model, graph)
    return model


def _size(name: str, sizes: Mapping[str, Any], step: int = 1) -> Any:  # noqa: ANN401 - int or Dim
    """The size that a name such as `H` or `H+4` stands for."""
    base, _, margin = name.partition("+")
    size = step * sizes[base] if step > 1 else sizes[base]
    return size + int(margin) if margin else size


def _example(port: Port, sizes: dict[str, int]) -> Tensor:
    shape = [_size(dim, sizes) if isinstance(dim, str) else dim for dim in port.shape]
    if port.dtype == "int32":
        return torch.zeros(shape, dtype=torch.int32)
    return torch.rand(shape)


def _name_dimensions(model: onnx.ModelProto, graph: str) -> None:
    """Gives dynamic dimensions the contract's names; the exporter derives names of its own."""
    contract = ALL_CONTRACTS[graph]
    for values, ports in (
        (model.graph.input, contract.inputs),
        (model.graph.output, contract.outputs),
    ):
        for value, port in zip(values, ports, strict=True):
            for dim, name in zip(value.type.tensor_type.shape.dim, port.shape, strict=True):
                if isinstance(name, str) and not dim.HasField("dim_value"):
                    dim.dim_param = name
    # Shapes inferred under the exporter's names would contradict the contract's.
    del model.graph.value_info[:]
    model.graph.name = graph
    model.producer_name = "m2a"
    model.doc_string = ""


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keeps the exporter's progress, advice and deprecations off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
