"""Disk full, no permission, kill -9, a file replaced while it is read: nothing half, nothing lost.

Processes of their own are really killed and really run into limits of the kernel.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import faults
import numpy as np
import pytest

from m2a.errors import ImageError
from m2a.files import set_aside, write_folder
from m2a.runtime.bundle import open_bundle
from m2a.runtime.images import Photo, read_photo, write_photo

resource = pytest.importorskip("resource", reason="limits and signals as POSIX has them")

KINDS = ("picture", "bundle", "engines")
STRAY = re.compile(r"\.m2a-[0-9a-f]{16}\.tmp|\.out\.[0-9a-f]{8}\.(new|old)")
"""The names that a killed process may leave."""


def place_of(kind, folder):
    return folder / ("out.png" if kind == "picture" else "out")


def check_whole(kind, place):
    """What lies there is of one turn, whole; returns the turn."""
    if kind == "picture":
        photo = read_photo(place)
        assert photo.pixels.shape == (faults.SIZE, faults.SIZE, 3)
        return int(photo.pixels[0, 0, 0])
    turn = (place / "three.json").read_bytes()[0]
    for name, content in faults.content(turn).items():
        assert (place / name).read_bytes() == content
    return turn


def begin(kind, place, *user, **options):
    command = [sys.executable, faults.__file__, kind, str(place), "100000", *user]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.parametrize("kind", KINDS)
def test_killed_while_writing(tmp_path, kind):
    """Again and again, at moments of which some lie in the middle of a write."""
    place = place_of(kind, tmp_path)
    moments = random.Random(0)
    for _ in range(3):
        with begin(kind, place) as process:
            assert process.stdout.readline() == "begun\n", process.stderr.read()
            time.sleep(moments.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
        others = [path.name for path in tmp_path.iterdir() if path != place]
        assert all(STRAY.fullmatch(name) for name in others)
        if not place.exists():  # killed between the two renames of a folder
            (aside,) = set_aside(place)
            check_whole(kind, aside)
            faults.write(kind, place, 7)
        check_whole(kind, place)


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_of_the_kernel(tmp_path, kind):
    """A file may not grow beyond 50 kB: the write fails in the middle, as on a full disk."""
    place = place_of(kind, tmp_path)
    faults.write(kind, place, 3)

    def starve():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    with begin(kind, place, preexec_fn=starve) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in said
    assert "File too large" in said
    assert check_whole(kind, place) == 3
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk(tmp_path, kind):
    mount = ["mount", "-t", "tmpfs", "-o", "size=900k", "none", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount")
    try:
        place = place_of(kind, tmp_path)
        faults.write(kind, place, 3)
        found = os.statvfs(tmp_path)
        (tmp_path / "ballast").write_bytes(bytes((found.f_bavail - 10) * found.f_frsize))
        with begin(kind, place) as process:
            _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "No space left on device" in said
        check_whole(kind, place)
        assert {path.name for path in tmp_path.iterdir()} == {place.name, "ballast"}
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_no_permission(kind):
    """Of a user who may not write into the folder; root, who may, gives that up."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = place_of(kind, folder)
        faults.write(kind, place, 0)
        folder.chmod(0o555)
        with begin(kind, place, *(["65534"] if root else [])) as process:
            _, said = process.communicate(timeout=60)
        folder.chmod(0o755)
        assert process.returncode == 1, said
        assert "ermission" in said  # denied, or not permitted
        assert check_whole(kind, place) == 0
        assert list(folder.iterdir()) == [place]


def test_a_picture_replaced_while_it_is_read(tmp_path):
    """Each reading is the one or the other, never a mixture; written anew in place it may fail."""
    place = tmp_path / "in.png"
    both = [np.full((300, 300, 3), value, np.uint8) for value in (0, 200)]
    write_photo(place, Photo(pixels=both[0]), overwrite=False)
    done = threading.Event()

    def replace():
        turn = 0
        while not done.is_set():
            turn += 1
            write_photo(place, Photo(pixels=both[turn % 2]), overwrite=True)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        seen = {int(value) for _ in range(30) for value in np.unique(read_photo(place).pixels)}
    finally:
        done.set()
        thread.join()
    assert seen <= {0, 200}


def test_a_picture_cut_short_while_it_is_read_is_refused(tmp_path):
    place = tmp_path / "in.png"
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    write_photo(place, Photo(pixels=pixels), overwrite=False)
    whole = place.read_bytes()
    done = threading.Event()

    def rewrite():
        while not done.is_set():
            with place.open("wb") as stream:
                for start in range(0, len(whole), 20_000):
                    stream.write(whole[start : start + 20_000])
                    stream.flush()

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        for _ in range(30):
            with contextlib.suppress(ImageError):  # refused, or whole
                assert np.array_equal(read_photo(place).pixels, pixels)
    finally:
        done.set()
        thread.join()


class TestAFolderSetAside:
    """Killed between its two renames, a writer leaves the older folder under another name."""

    def test_the_next_writer_takes_it_back_if_it_fails_itself(self, tmp_path, monkeypatch):
        target = tmp_path / "out"
        write_folder(tmp_path / ".out.0123abcd.old", faults.content(3))

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_folder(target, faults.content(4))
        assert check_whole("bundle", target) == 3

    def test_the_next_writer_replaces_it(self, tmp_path):
        write_folder(tmp_path / ".out.0123abcd.old", faults.content(3))
        write_folder(tmp_path / "out", faults.content(4))
        assert check_whole("bundle", tmp_path / "out") == 4
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_a_reader_is_told_how_to_bring_it_back(self, tmp_path):
        write_folder(tmp_path / ".out.0123abcd.old", faults.content(3))
        with pytest.raises(Exception, match=r"mv .*\.out\.0123abcd\.old .*out brings it back"):
            open_bundle(tmp_path / "out")
