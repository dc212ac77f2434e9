"""The command line itself: `m2a --version`."""

from __future__ import annotations

import subprocess
import sys
import time

from click.testing import CliRunner

from m2a import __version__
from m2a.cli import main


def test_the_first_line_is_the_version_and_the_others_those_of_the_rest():
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    first, *others = result.stdout.splitlines()
    assert first == f"m2a, version {__version__}"
    names = [line.split()[0] for line in others]
    assert names[:2] == ["python", "os"]
    assert {"numpy", "onnxruntime", "libvips", "torch", "onnx"} <= set(names)


def test_telling_the_versions_imports_nothing_heavy_and_is_fast():
    program = (
        "import sys\nfrom m2a.cli import main\nmain(['--version'], standalone_mode=False)\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - start
    heavy = {"numpy", "pyvips", "onnxruntime", "torch", "onnx", "rich"}
    assert not heavy & set(done.stderr.split())
    assert seconds < 3  # 0.2 s here; ten times that on a machine that is busy
