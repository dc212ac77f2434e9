"""Parity: the forms of the network, compared stage by stage on several sizes and masks.

torch masked dense → torch gathered → ONNX Runtime. The cases are chosen so that every kind of
table entry occurs: absent neighbours, single pixels, borders, sizes that are no multiple of 32,
a full mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from m2a.errors import ParityError
from m2a.export.trace import DeployedMask, DeployedRestore
from m2a.graphs.contract import CONTRACTS
from m2a.models.network import M2AENet
from m2a.runtime.backends import DEFAULT_BACKEND, open_runners
from m2a.runtime.graph_inputs import extract_patches, mask_graph_image, to_planes
from m2a.runtime.manifest import DENSE, LIMIT_FP32
from m2a.runtime.sites import Sites, build_sites, pad_image, pad_mask
from m2a.runtime.verify import MOTION_BOUND, worst

MIN_RESIDUAL_DEVIATION = 1e-5
"""A reference residual that varies less than this belongs to a network that does nothing."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison.

    Attributes:
        name: for the report.
        image: f32 [H, W, 3], RGB in [0, 1].
        mask: bool [H, W], not empty.
    """

    name: str
    image: NDArray[np.float32]
    mask: NDArray[np.bool_]


def parity_cases(*, seed: int = 0) -> list[Case]:
    """Returns the cases: images of noise, the hardest for an index that is off by one."""
    rng = np.random.default_rng(seed)
    patterns: list[tuple[str, tuple[int, int], Callable[[int, int], NDArray[np.bool_]]]] = [
        ("1×1", (1, 1), lambda h, w: np.ones((h, w), bool)),
        ("single pixel", (64, 96), lambda h, w: _single(h, w)),
        ("full", (64, 64), lambda h, w: np.ones((h, w), bool)),
        ("checkerboard", (70, 50), lambda h, w: np.indices((h, w)).sum(axis=0) % 2 == 0),
        ("border", (95, 127), lambda h, w: _border(h, w)),
        ("random 10 %", (130, 161), lambda h, w: rng.random((h, w)) < 0.1),
        ("reference", (150, 210), lambda h, w: reference_mask(h, w)),
    ]
    return [
        Case(
            name=f"{name}, {width}×{height}",
            image=rng.random((height, width, 3), dtype=np.float32),
            mask=pattern(height, width),
        )
        for name, (height, width), pattern in patterns
    ]


def reference_mask(height: int, width: int) -> NDArray[np.bool_]:
    """A mask with two blobs, one at a corner, an empty band, single pixels and a border line."""
    y, x = np.mgrid[:height, :width]
    mask = (y - 0.4 * height) ** 2 + (x - 0.45 * width) ** 2 < (0.22 * height) ** 2
    mask |= (y > 0.85 * height) & (x > 0.8 * width)
    mask |= (y % 29 == 3) & (x % 31 == 5) & (x > 0.7 * width)
    mask[:, 0] |= np.arange(height) < 0.3 * height
    return np.asarray(mask)


def _single(height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    mask[height // 3, width // 2] = True
    return mask


def _border(height: int, width: int) -> NDArray[np.bool_]:
    mask = np.ones((height, width), bool)
    mask[2:-2, 2:-2] = False
    return mask


def measure_parity(
    network: M2AENet, graphs: dict[str, bytes], cases: list[Case]
) -> dict[str, float]:
    """Compares the forms of the network.

    Args:
        network: the torch network, in evaluation mode.
        graphs: `mask`, `restore` and, if there is one, `dense`, serialised.
        cases: what to compare on.

    Returns:
        Stage → worst absolute error over all cases; of motion, as a share of its 48-pixel bound.

    Raises:
        ParityError: a stage exceeds 1e-4; the message names it and the case.
    """
    opened = open_runners(list(graphs.values()), backend=DEFAULT_BACKEND)
    runners = dict(zip(graphs, opened, strict=True))
    folded, gathered = DeployedMask(network), DeployedRestore(network)
    errors: dict[str, float] = {}

    def record(stage: str, case: Case, error: float) -> None:
        errors[stage] = max(errors.get(stage, 0.0), error)
        if not error <= LIMIT_FP32:
            raise ParityError(
                f"the stage {stage!r} is off by {error:.2e} on the case {case.name!r}, "
                f"expected at most {LIMIT_FP32:.0e}: the exported graphs would not compute what "
                "the checkpoint does"
            )

    for case in cases:
        surroundings = pad_image(case.image)
        padded = torch.from_numpy(mask_graph_image(surroundings))
        with torch.no_grad():
            probability = network.predict_padded_mask(padded).sigmoid()
            folded_probability = folded(padded)
        record("mask: batch norms folded", case, _apart(probability, folded_probability))
        output = runners["mask"].run({"image": padded.numpy()})["mask"]
        record("mask: onnxruntime", case, _apart(folded_probability, output))

        sites = build_sites(pad_mask(case.mask))
        patches = extract_patches(surroundings, sites.pixels)
        dense = dense_rows(network, case, sites)
        with torch.no_grad():
            inputs = {"patches": patches, **sites.tables}
            ordered = [torch.from_numpy(inputs[p.name]) for p in CONTRACTS["restore"].inputs]
            residual, motion = gathered(*ordered)
        outputs = runners["restore"].run(inputs)
        for stage, before, after in (
            ("restore.residual: gathered", dense[0], residual),
            ("restore.residual: onnxruntime", residual, outputs["residual"]),
        ):
            record(stage, case, _apart(before, after))
        for stage, before, after in (
            ("restore.motion: gathered", dense[1], motion),
            ("restore.motion: onnxruntime", motion, outputs["motion"]),
        ):
            record(stage, case, _apart(before, after) / MOTION_BOUND)
        if DENSE in graphs:
            found = _active(runners[DENSE].run(_dense_inputs(surroundings, case)), case, sites)
            record("dense.residual: onnxruntime", case, _apart(dense[0], found[0]))
            record("dense.motion: onnxruntime", case, _apart(dense[1], found[1]) / MOTION_BOUND)
    return errors


def dense_rows(
    network: M2AENet, case: Case, sites: Sites
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The masked dense network's residual [N_0, 3] and motion [N_2, 4] at the active sites."""
    mask = torch.from_numpy(case.mask)[None, None].float()
    with torch.no_grad():
        restoration = network.restore(_tensor(case.image), mask)
    outputs = {name: value.numpy() for name, value in restoration._asdict().items()}
    return _active(outputs, case, sites)


def _dense_inputs(surroundings: NDArray[np.float32], case: Case) -> dict[str, NDArray[np.float32]]:
    mask = pad_mask(case.mask).astype(np.float32)
    return {"image": to_planes(surroundings), "mask": mask[None, None]}


def _active(
    outputs: Mapping[str, NDArray[np.float32]], case: Case, sites: Sites
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A dense form's `residual` and `motion` at the active sites: [N_0, 3] and [N_2, 4]."""
    height, width = case.mask.shape
    residual = outputs["residual"][0].transpose(1, 2, 0)[:height, :width]
    x, y = sites.tables["site_xy"].T
    return residual[case.mask], outputs["motion"][0].transpose(1, 2, 0)[y, x]


def check_not_constant(residual: NDArray[np.float32]) -> None:
    """Refuses a reference residual that is constant.

    Raises:
        ParityError: parity of a network that does nothing proves nothing.
    """
    deviation = float(residual.std(axis=0, dtype=np.float64).max())
    if not deviation > MIN_RESIDUAL_DEVIATION:
        raise ParityError(
            f"the reference residual is constant (standard deviation {deviation:.1e}, expected "
            f"more than {MIN_RESIDUAL_DEVIATION:.0e}): a network that does nothing proves "
            "nothing. Is the checkpoint trained?"
        )


def _tensor(image: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


def _apart(a: object, b: object) -> float:
    return worst(np.asarray(a, np.float32) - np.asarray(b, np.float32))
