"""Fuzzes one target with atheris (`pip install -e '.[fuzz]'`, CPython 3.11 to 3.13).

    python tests/fuzz/run.py image -atheris_runs=100000 -timeout=10 -rss_limit_mb=4096 [CORPUS]

Arguments after the target are libFuzzer's. Without a corpus it begins from `targets.seeds`.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))

with atheris.instrument_imports(include=["m2a", "json"]):
    import targets


def main() -> None:
    name, *options = sys.argv[1:]
    target = targets.TARGETS[name]
    corpus = [option for option in options if not option.startswith("-")]
    if not corpus:
        folder = Path(tempfile.mkdtemp(prefix=f"m2a-fuzz-{name}-"))
        for index, seed in enumerate(targets.seeds(name)):
            (folder / f"seed-{index}").write_bytes(seed)
        options.append(str(folder))
    logging.disable()  # what libvips says of a damaged file goes to a log, hundreds of lines
    atheris.Setup([sys.argv[0], *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
