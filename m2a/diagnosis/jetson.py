"""NVIDIA Jetson: the model, its release of Linux for Tegra, and the power mode."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from m2a.diagnosis.finding import Finding, good, missing, not_applicable

FASTER = "sudo nvpmodel -p --verbose lists the modes, sudo nvpmodel -m NUMBER sets one"


def query_power_mode(*, seconds: float = 10) -> str | None:
    """Returns what `nvpmodel -q` says, or None where there is no such program or answer."""
    program = shutil.which("nvpmodel", path="/usr/sbin:/usr/bin:/bin")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "-q"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def jetson_findings(
    *, root: Path = Path("/"), power_mode: Callable[[], str | None] = query_power_mode
) -> Iterable[Finding]:
    """Names the Jetson and its power mode, which decides how fast it is.

    Args:
        root: where `/proc` and `/etc` lie.
        power_mode: asks for the power mode, on a Jetson alone.

    Yields:
        One finding elsewhere, two on a Jetson.
    """
    model = _text(root / "proc/device-tree/model").strip("\0\n ")
    release = _text(root / "etc/nv_tegra_release")
    if not release and "jetson" not in model.lower():
        yield not_applicable("Jetson", "this machine is none")
        return
    yield good("Jetson", f"{model or 'of unknown model'}, {_linux_for_tegra(release)}")
    answer = power_mode() or ""
    found = re.search(r"NV Power Mode:\s*(\S+)\s*(\d*)", answer)
    if found is None:
        yield missing("power mode", "unknown: nvpmodel does not tell it", "sudo nvpmodel -q")
        return
    name, number = found.groups()
    mode = f"{name} (mode {number})" if number else name
    # MAXN and MAXN_SUPER have no cap; their numbers differ from model to model.
    yield good("power mode", mode, "" if name.startswith("MAXN") else f"faster: {FASTER}")


def _linux_for_tegra(release: str) -> str:
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", release)
    return f"Linux for Tegra {found[1]}.{found[2]}" if found else "release unknown"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
