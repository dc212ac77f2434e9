"""What a diagnosis comes to: how many of each status, and what can be done on this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from m2a.diagnosis.finding import Finding, Status

_NEEDED_TO_RUN = ("NumPy", "libvips", "ONNX Runtime", "bundle")

_COMMANDS: Mapping[str, str] = {
    "extra export": "m2a export",
    "extra bench": "m2a bench",
    "extra eval": "m2a eval",
    "extra train": "m2a train and m2a synth",
    "extra video": "m2a run on a video",
    "extra serve": "m2a serve",
    "extra ray": "m2a run --ray",
    "extra triton": "m2a triton",
    "TensorRT for RTX": "m2a build-engine",
}
"""Topic → what it makes possible beside deblurring photos."""

_BACKENDS = "ort-"
"""How the topics of ONNX Runtime's backends begin."""


def counts_of(findings: Iterable[Finding]) -> dict[str, int]:
    """Status → how many findings; what is not applicable counts nowhere else."""
    counts = Counter(finding.status for finding in findings)
    return {status.value: counts[status] for status in Status}


def summary_line(findings: Iterable[Finding]) -> str:
    """The counts in words."""
    counts = counts_of(findings)
    return (
        f"{counts['good']} good, {counts['missing']} missing (optional), {counts['broken']} broken"
    )


def works(findings: Sequence[Finding]) -> list[str]:
    """What can be done on this machine, a phrase each; empty where nothing can."""
    good = {finding.topic for finding in findings if finding.status is Status.GOOD}
    if not good.issuperset(_NEEDED_TO_RUN):
        return []
    backends = [f.topic for f in findings if f.topic.startswith(_BACKENDS) and f.topic in good]
    if not backends:
        return []
    others = [command for topic, command in _COMMANDS.items() if topic in good]
    return [f"m2a run and m2a report with {' or '.join(backends)}", *others]
