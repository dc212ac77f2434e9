"""Checkpoints: writing ours, and reading whatever training code left behind.

Ours are safetensors files whose header tells the configuration. Read are also `.pth`/`.pt` files
(`torch.load` with `weights_only=True`, so nothing is executed): a state dict, bare or under one of
the usual keys, with or without a `module.` prefix. A configuration that is stored beside it is not
needed and not looked at: the fields follow from the shapes, and the shapes are what runs. Only
`mask_mirrored` shows in no shape: the header of our files says it, and others are not mirrored.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from m2a.errors import CheckpointError, CheckpointNotFoundError
from m2a.extras import needing_extra
from m2a.files import atomic_write
from m2a.models.config import LEVELS, M2AENetConfig
from m2a.models.network import M2AENet

MASK_SETTINGS = ("threshold", "dilate")
"""Entries of the header that go with a mask predictor: at which probability a pixel is active, and
by how many pixels the mask is then dilated."""

_STATE_KEYS = ("ema", "params_ema", "state_dict", "model", "params", "net", "network")
_WRAPPERS = ("module.", "_orig_mod.", "net.", "network.")
_LISTED = 5

_TORCH_STARTS = (b"PK\x03\x04", b"\x80")
"""How files of `torch.save` begin: an archive today, a pickle before torch 1.6."""

HEADER = "m2a"
"""The entry of the file's header: a JSON object with `config`, what training tells, and
`MASK_SETTINGS` where those who trained the network chose them for it."""


def save_checkpoint(
    network: M2AENet,
    path: Path,
    *,
    metadata: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Writes weights and configuration as safetensors, atomically.

    The same network and metadata give the same file, byte for byte.

    Args:
        network: the network.
        path: the file, with the suffix `.safetensors`.
        metadata: JSON values for the object under `HEADER`, beside `config`.
        half: round the weights to FP16, for half the size.

    Raises:
        CheckpointError: a weight lies beyond FP16's range, in which it was to be stored.
    """
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    if half:
        tensors = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
        if large := sorted(n for n, t in tensors.items() if not bool(torch.isfinite(t).all())):
            raise CheckpointError(f"{path}: {_listing('beyond FP16', large)}; store it in FP32")
    # One entry, because safetensors writes several in random order.
    header = json.dumps({"config": network.config.to_json(), **(metadata or {})})
    content = _safetensors().save(tensors, {HEADER: header})
    atomic_write(path, content, overwrite=True)


class Checkpoint(NamedTuple):
    """A checkpoint that was read.

    Attributes:
        network: f32, on the CPU, in evaluation mode.
        header: the object under `HEADER`; empty where the file has none, as every `.pth` file.
        content: the file's bytes.
    """

    network: M2AENet
    header: dict[str, Any]
    content: bytes


def open_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint with what its header tells.

    Args:
        path: a `.safetensors`, `.pth` or `.pt` file.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    content = read_checkpoint_file(path)
    network = parse_checkpoint(content, path)
    header = _read_header(content, path) if path.suffix == ".safetensors" else {}
    # The one thing of a configuration that no weight's shape tells.
    config = header.get("config")
    mirrored = config.get("mask_mirrored", False) if isinstance(config, dict) else False
    if not isinstance(mirrored, bool):
        raise CheckpointError(
            f"{path}: its header's config.mask_mirrored is {mirrored!r:.60}, expected true or false"
        )
    network.config = replace(network.config, mask_mirrored=mirrored)
    return Checkpoint(network=network, header=header, content=content)


def mask_settings(header: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `MASK_SETTINGS` that a checkpoint's header says, as it says them."""
    return {name: header[name] for name in MASK_SETTINGS if name in header}


def load_checkpoint(path: Path) -> M2AENet:
    """Reads a checkpoint into a network in evaluation mode.

    Args:
        path: a `.safetensors`, `.pth` or `.pt` file.

    Returns:
        The network, f32, on the CPU.

    Raises:
        CheckpointError: the file is missing or not a checkpoint, its weights do not fit M2AENet
            (the message lists what did not match), or its header's entry is not a JSON object, or
            says of `config.mask_mirrored` neither true nor false.
    """
    return open_checkpoint(path).network


def read_checkpoint_file(path: Path) -> bytes:
    """Reads a checkpoint's bytes, to parse, and to hash what was parsed.

    Raises:
        CheckpointNotFoundError: there is no such file.
    """
    if not path.is_file():
        found = "a directory" if path.is_dir() else "no such file"
        raise CheckpointNotFoundError(
            f"{path}: found {found}, expected a checkpoint: a .safetensors, .pth or .pt file"
        )
    return path.read_bytes()


def parse_checkpoint(content: bytes, path: Path) -> M2AENet:
    """Reads a checkpoint that is in memory.

    Args:
        content: the file's bytes.
        path: the file's name, which tells the format and stands in messages.

    Returns:
        The network, f32, on the CPU, in evaluation mode, by the shapes of the weights alone.

    Raises:
        CheckpointError: it is not a checkpoint, or its weights do not fit M2AENet.
    """
    state = _read(content, path)
    state = {_unwrapped(name): tensor for name, tensor in state.items()}
    # What a batch norm counted takes no part in inference, and its shape varies.
    state = {
        name: torch.empty(0) if tensor.is_nested else tensor  # a nested one has no shape
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    try:
        config = infer_config(state)
        with torch.device("meta"):  # the shapes are only claimed: nothing is allocated for them yet
            claimed = M2AENet(config)
    except (ValueError, ZeroDivisionError, RuntimeError, TypeError) as error:
        # The last two: of more elements than can be counted.
        raise CheckpointError(f"{path}: its shapes belong to no M2AENet: {error}") from error
    except KeyError as error:
        raise CheckpointError(
            f"{path} is not an M2AENet checkpoint: its configuration cannot be inferred without "
            f"{error.args[0]!r}. {_listing('It holds', sorted(state))}"
        ) from error
    odd = sorted(name for name, tensor in state.items() if not _is_plain(tensor))
    if odd:
        raise CheckpointError(
            f"{path}: {_listing('tensors of another kind', odd)}; expected dense tensors of 16, 32 "
            "or 64 bits in floating point. Save the weights as they were trained, not quantised"
        )
    _check_fit(path, state, claimed)
    network = M2AENet(config)
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
    return network.eval()


_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is dense, in floating point, and holds each element that it claims."""
    return (
        tensor.layout == torch.strided
        and tensor.dtype in _FLOATS
        and tensor.device.type == "cpu"
        and tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.itemsize
    )


def infer_config(state: Mapping[str, Tensor]) -> M2AENetConfig:
    """Recovers the configuration from the shapes of the weights, as far as they tell.

    Raises:
        KeyError: a weight that determines the configuration is missing; its name.
        ValueError: the shapes belong to no valid configuration.
    """

    def size(name: str, axis: int) -> int:
        if name not in state or state[name].ndim <= axis:
            raise KeyError(name)
        return state[name].shape[axis]

    def count(prefix: str) -> int:
        parts = {n[len(prefix) :].split(".")[0] for n in state if n.startswith(prefix)}
        return len(parts)

    width = size("restorer.stem.weight", 0)
    motion_width = size("restorer.motion.coefficients.weight", 1)
    mask_widths = [size("mask_predictor.stem.1.conv.weight", 0)]
    mask_widths += [size(f"mask_predictor.down.{n}.conv.weight", 0) for n in range(LEVELS - 1)]
    blocks = [count(f"restorer.encoder.{level}.") for level in range(LEVELS)]
    mask_blocks = [count(f"mask_predictor.encoder.{level}.") for level in range(LEVELS)]
    fields = {
        "width": width,
        "blocks": blocks,
        "trajectory_points": size("restorer.motion.mix.weight", 1) // motion_width,
        "mask_stem_width": size("mask_predictor.stem.0.conv.weight", 0),
        "mask_widths": mask_widths,
        "mask_blocks": mask_blocks,
    }
    return M2AENetConfig.from_json(fields)


def _read(data: bytes, path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return _read_safetensors(data, path)
    if not data.startswith(_TORCH_STARTS):
        raise CheckpointError(
            f"{path}: found a file of another kind, expected a checkpoint, as torch.save or "
            "safetensors writes it"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own words about what it then refuses
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises anything
        raise CheckpointError(
            f"{path}: found a checkpoint that is damaged, or that holds more than tensors and "
            "would have to execute code, expected the weights alone. If it opens elsewhere, save "
            "them there: torch.save(model.state_dict(), 'weights.pth')"
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, expected a dictionary of tensors"
        )
    nested = (content[k] for k in _STATE_KEYS if isinstance(content.get(k), Mapping))
    state = next(nested, content)
    tensors = {str(n): t for n, t in state.items() if isinstance(t, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{path} holds no tensors. {_listing('Found the keys', sorted(map(str, content)))}; "
            f"expected a state dict, bare or under one of {list(_STATE_KEYS)}"
        )
    return tensors


def _read_safetensors(data: bytes, path: Path) -> dict[str, Tensor]:
    safetensors = _safetensors()
    try:
        tensors: dict[str, Tensor] = safetensors.load(data)
    except Exception as error:  # safetensors raises its own exception type, without a base
        raise CheckpointError(
            f"{path} is not a safetensors file, or is cut off or damaged: copy it again"
        ) from error
    return tensors


def _read_header(data: bytes, path: Path) -> dict[str, Any]:
    """Reads the object under `HEADER` of a file that safetensors has accepted."""
    # The format: the length of the header in 8 bytes, then the header, as JSON.
    end = 8 + int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8:end]).get("__metadata__") or {}
    try:
        header = json.loads(metadata.get(HEADER, "{}"))
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its header's entry {HEADER!r} is not a JSON object")
    return header


def _safetensors() -> Any:  # noqa: ANN401 - the package has no types
    with needing_extra("export", only=["safetensors"], purpose="Reading or writing a checkpoint"):
        import safetensors.torch
    return safetensors.torch


def _unwrapped(name: str) -> str:
    stripped = True
    while stripped:
        stripped = False
        for prefix in _WRAPPERS:
            if name.startswith(prefix):
                name, stripped = name[len(prefix) :], True
    return name


def _check_fit(path: Path, state: Mapping[str, Tensor], network: M2AENet) -> None:
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    found = {n: tuple(t.shape) for n, t in state.items() if not n.endswith("num_batches_tracked")}
    missing = sorted(set(expected) - set(found))
    surplus = sorted(set(found) - set(expected))
    wrong = [
        f"{name} {found[name]}, expected {expected[name]}"
        for name in sorted(set(expected) & set(found))
        if expected[name] != found[name]
    ]
    infinite = [name for name in found if not bool(torch.isfinite(state[name]).all())]
    problems = [
        _listing(title, names)
        for title, names in (
            ("missing", missing),
            ("not in the network", surplus),
            ("of another shape", wrong),
            ("not finite", sorted(infinite)),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not fit M2AENet ({network.config.name}): {'; '.join(problems)}"
        )


def _listing(title: str, names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{title} ({len(names)}): {', '.join(names[:_LISTED])}{more}"
