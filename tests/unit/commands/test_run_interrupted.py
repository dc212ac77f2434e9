"""`m2a run` interrupted in the middle of a folder."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_pictures import draw, lines, read, tree

from m2a.cli import main


@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C reaches pytest too")
class TestInterrupted:
    """SIGINT in the middle of a folder, to a process of its own."""

    COUNT = 60

    @pytest.fixture
    def interrupted(self, invoke, tmp_path):
        for index in range(self.COUNT):
            draw(f"photos/{index:02}.png", seed=index, size=(256, 256))
        # A process that pytest starts in the background would ignore the signal.
        script = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from m2a.cli import main; main()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, "run", "photos", "-o", "out", "--mask-out", "masks"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while len(list(Path("out").glob("*"))) < 3:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.002)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        return process.returncode, said.splitlines()

    def test_it_leaves_whole_files_and_goes_on(self, invoke, interrupted):
        code, said = interrupted
        assert code == 130
        assert said[-1] == "m2a: interrupted"
        done, left = (int(word.split()[0]) for word in said[-2].split(" in ")[0].split(", ")[::3])
        assert 2 <= done < self.COUNT
        assert done + left == self.COUNT
        assert "Traceback" not in "".join(said)
        for folder in ("out", "masks"):
            assert all(path.suffix == ".png" for path in Path(folder).iterdir())
            for path in Path(folder).iterdir():
                read(path)
        kept = {path: path.read_bytes() for path in Path("out").iterdir()}
        assert done <= len(kept) <= done + 1
        arguments = ("run", "photos", "-o", "out", "--mask-out", "masks", "--skip-existing")
        again = CliRunner().invoke(main, arguments)
        assert again.exit_code == 0, again.output
        assert lines(again)[0].startswith(f"{left} done, {done} skipped, 0 failed")
        expected = [f"{index:02}.png" for index in range(self.COUNT)]
        assert tree("out") == tree("masks") == expected
        assert all(path.read_bytes() == content for path, content in kept.items())
        for path in Path("out").iterdir():
            assert read(path).shape == (256, 256, 3)
