"""Files and folders appear whole or not at all, and what was there is not lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import noise, put

from m2a import files
from m2a.errors import ImageError, UsageError
from m2a.runtime.images import Photo, write_photo

PHOTO = Photo(pixels=noise(3, 8))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_write_failure_leaves_the_old_file(tmp_path, monkeypatch, step, error):
    path = put(tmp_path, "out.png", b"old")

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    expected = ImageError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_photo(path, PHOTO, overwrite=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch, hard_links):
    path = tmp_path / "out.bin"
    synchronise = os.fsync

    def another_program_is_faster(descriptor):
        synchronise(descriptor)
        path.write_bytes(b"theirs")

    def unsupported(self, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fsync", another_program_is_faster)
    if not hard_links:
        monkeypatch.setattr(Path, "hardlink_to", unsupported)
    with pytest.raises(UsageError, match="--overwrite"):
        files.atomic_write(path, b"ours", overwrite=False)
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_file_systems_without_hard_links(tmp_path, monkeypatch):
    def unsupported(self, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", unsupported)
    files.atomic_write(tmp_path / "out.bin", b"ours", overwrite=False)
    assert (tmp_path / "out.bin").read_bytes() == b"ours"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o400])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path, mode):
    path = put(tmp_path, "out.bin", b"old")
    path.chmod(mode)
    with files.atomic_file(path, overwrite=True) as stream:
        assert os.fstat(stream.fileno()).st_mode & 0o777 == mode  # from the first byte on
        stream.write(b"new")
    assert path.stat().st_mode & 0o777 == mode
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Linux lists what is open there")
def test_a_folder_that_is_read_as_a_file_is_refused_and_closed(tmp_path):
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a list, at once
    with pytest.raises(OSError, match="not a regular file"):
        files.read_regular(tmp_path, limit=10)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.skipif(sys.platform != "linux", reason="of memory that is not touched, only Linux'")
def test_reading_takes_memory_for_the_file_and_not_for_the_limit(tmp_path):
    path = put(tmp_path, "small.bin", b"content")
    script = """
import resource, sys
from pathlib import Path
from m2a.files import read_regular
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
print(read_regular(Path(sys.argv[1]), limit=2**32).decode())
"""
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "content\n", done.stderr


@pytest.mark.parametrize("limit", [3, 5, 100])
def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch, limit):
    path = put(tmp_path, "in.bin", b"old")
    look = os.fstat

    def another_program_writes(descriptor):
        found = look(descriptor)
        with path.open("ab") as stream:
            stream.write(b" and new")
        return found

    monkeypatch.setattr(os, "fstat", another_program_writes)
    with pytest.raises(OSError, match="longer than the 3 bytes that it had when it was opened"):
        files.read_regular(path, limit=limit)


def test_the_limit_is_the_last_size_that_is_read(tmp_path):
    path = put(tmp_path, "in.bin", b"three")
    assert files.read_regular(path, limit=5) == b"three"
    with pytest.raises(OSError, match="longer than 4 bytes"):
        files.read_regular(path, limit=4)


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="a file of Linux' without a size"
)
def test_a_file_that_states_no_size_is_refused():
    with pytest.raises(OSError, match="longer than the 0 bytes"):
        files.read_regular(Path("/proc/self/status"), limit=2**20)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_mode_follows_the_umask(tmp_path, umask, overwrite):
    before = os.umask(umask)
    try:
        write_photo(tmp_path / "out.png", PHOTO, overwrite=overwrite)
    finally:
        os.umask(before)
    assert (tmp_path / "out.png").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.skipif(os.name != "posix", reason="Windows needs a privilege for symbolic links")
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_symbolic_link_is_followed(tmp_path, overwrite):
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "out.bin"
    if overwrite:
        target.write_bytes(b"old")
    link = tmp_path / "link.bin"
    link.symlink_to(target)
    files.atomic_write(link, b"new", overwrite=overwrite)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_an_error_names_the_callers_file_and_not_the_temporary_one(tmp_path, monkeypatch):
    def refuse(path, mode="r", **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError) as file:
        files.atomic_write(tmp_path / "out.bin", b"", overwrite=False)
    assert file.value.filename == str(tmp_path / "out.bin")
    with pytest.raises(PermissionError) as folder:
        files.write_folder(tmp_path / "out", {"a/b": b""})
    assert folder.value.filename == str(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


class TestWhatKilledWritersLeft:
    """Beside a folder that is there: none of it is needed to bring anything back."""

    LEFT = (".out.0123abcd.old", ".out.4567abcd.old", ".out.89abcdef.new", ".other.0123abcd.old")

    @pytest.fixture
    def target(self, tmp_path):
        for name in (*self.LEFT, "out"):
            (tmp_path / name).mkdir()
            put(tmp_path / name, "of", name.encode())
        return tmp_path / "out"

    def test_the_next_writer_removes_what_was_set_aside(self, target):
        files.write_folder(target, {"of": b"new"})
        assert (target / "of").read_bytes() == b"new"
        # The `.new` one may be that of a writer who is at work.
        left = {".out.89abcdef.new", ".other.0123abcd.old", "out"}
        assert {path.name for path in target.parent.iterdir()} == left

    def test_one_that_fails_removes_nothing(self, target, monkeypatch):
        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            files.write_folder(target, {"of": b"new"})
        assert (target / "of").read_bytes() == b"out"
        assert {path.name for path in target.parent.iterdir()} == {*self.LEFT, "out"}
