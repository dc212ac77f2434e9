"""Which parts of a network stay in FP32: as few as the quality gate leaves, the worst first.

Each part is put into INT8 alone, and measured on photos that calibrated: the share of the gate's
limits that it uses up is what it is worth. The worst ones go back, as many as it takes until the
gate holds with some room on the photos that judge; how many is found by bisection, since the error
only falls as more of them go back. The room is for the choice being made on those very photos.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from m2a.calibration.gate import LIMITS, Gate
from m2a.errors import PrecisionError

MOST_KEPT = 0.5
"""Share of the parts that may go back: a network of which more is in FP32 is not worth having."""

WITH_ROOM = 0.9
"""Share of the gate's limits that a choice may use up: the smallest one that just passes on these
photos would lie on the limit, and fail on others."""

Measure = Callable[[Collection[str]], Gate]
"""Names of the weights that stay in FP32 → the gate's figures."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was decided.

    Attributes:
        gate: that the choice passed.
        kept: weight that stays in FP32 → the share of the gate's limits that it used alone.
        without: the figures with all of them in INT8, where some went back; None where none did.
    """

    gate: Gate
    kept: Mapping[str, float]
    without: Gate | None = None


def choose_kept(
    parts: Collection[str],
    judge: Measure,
    measure_alone: Callable[[str], Gate],
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Choice:
    """Chooses what stays in FP32.

    Args:
        parts: names of the weights that could be in INT8.
        judge: the gate on the photos that judge.
        measure_alone: the figures of one part alone in INT8, on photos that calibrated.
        progress: called with each step's name.

    Returns:
        The choice, which passed the gate.

    Raises:
        PrecisionError: the gate does not hold with half of them in FP32; the message has the
            figures.
    """
    progress(f"judging with all {len(parts)} products in INT8")
    whole = judge(())
    if whole.passed:
        return Choice(gate=whole, kept={})
    worth = {}
    for number, part in enumerate(parts, 1):
        progress(f"measuring {part} alone ({number} of {len(parts)})")
        worth[part] = measure_alone(part).used
    ordered = sorted(parts, key=lambda part: worth[part], reverse=True)
    fitting: dict[int, Gate] = {}
    most = int(MOST_KEPT * len(ordered))
    low, high = 1, most + 1  # that many go back
    last = whole
    while low < high:
        count = (low + high) // 2
        progress(f"judging with {count} of {len(parts)} products back in FP32")
        last = judge(ordered[:count])
        if last.used <= WITH_ROOM:
            fitting[count], high = last, count
        else:
            low = count + 1
    if not fitting and last.passed:  # the most that may go back: no choice is left
        low, fitting = most, {most: last}
    if low not in fitting:
        raise PrecisionError(
            f"INT8 does not give the same picture as FP32: {whole}; with {most} of {len(parts)} "
            f"products back in FP32, {last}; {LIMITS}. Calibrate with other photos or "
            "another --method, or take FP16"
        )
    kept = {part: worth[part] for part in ordered[:low]}
    return Choice(gate=fitting[low], kept=kept, without=whole)
