"""The part of m2a that a stitching model carries with it.

Model and code then change together, a server needs no installation of m2a, and two versions of a
model can stand side by side.
"""

from __future__ import annotations

from pathlib import Path

from m2a._version import __version__

__all__ = ["model_files"]

PACKAGE = Path(__file__).resolve().parent.parent

_CARRIED = (
    *("LICENSE", "__init__.py", "_version.py", "errors.py", "extras.py", "files.py"),
    *("graphs", "machine", "runtime"),
    *("triton/__init__.py", "triton/settings.py", "triton/models"),
)
"""What `m2a.triton.models` needs of the package, and the licence that copies must come with."""

_MODEL = '''\
"""Written by m2a {version}: `m2a triton` writes it again."""

import sys
from pathlib import Path

# The copy of m2a beside this file goes before an installed one.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from m2a.triton.models.{module} import TritonPythonModel  # noqa: E402

__all__ = ["TritonPythonModel"]
'''


def model_files(module: str) -> dict[str, bytes]:
    """Returns `model.py` and the code that it needs: path in the version's folder → content.

    Args:
        module: of `m2a.triton.models`, which is the model.
    """
    files = {"model.py": _MODEL.format(version=__version__, module=module).encode()}
    for name in _CARRIED:
        place = PACKAGE / name
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            files[f"m2a/{file.relative_to(PACKAGE).as_posix()}"] = file.read_bytes()
    return files
