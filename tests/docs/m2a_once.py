"""`m2a export`, `train` and `build-engine` as the documentation calls them, computed only once.

Pages repeat each other's commands, and these take long: what the first one wrote is copied. What
fails is not kept.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock


def main(arguments: list[str]) -> int:
    options, output = _without_output(arguments)
    # Engines go into the bundle that they are built from.
    read = [*options, *([output] if options[0] == "build-engine" else [])]
    kept = Path(os.environ["M2A_ONCE"]) / _key(read)
    with FileLock(f"{kept}.lock"):  # another worker of the tests may be at the same command
        if kept.exists():
            shutil.copytree(kept, output, dirs_exist_ok=True)
            return 0
        done = subprocess.run([sys.executable, "-m", "m2a", *arguments], check=False)
        if done.returncode == 0:
            shutil.copytree(output, f"{kept}.new", dirs_exist_ok=True)
            Path(f"{kept}.new").rename(kept)
        return done.returncode


def _without_output(arguments: list[str]) -> tuple[list[str], str]:
    if "-o" not in arguments:
        return arguments, "m2a-bundle"
    place = arguments.index("-o")
    return arguments[:place] + arguments[place + 2 :], arguments[place + 1]


def _key(words: list[str]) -> str:
    """Of a command's words and of the content of all files that they name."""
    digest = hashlib.sha256("\0".join(words).encode())
    for path in map(Path, words):
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in filter(Path.is_file, files):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
