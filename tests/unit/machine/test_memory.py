"""What a program may still take, on machines and in containers that are not at hand."""

from __future__ import annotations

import pytest

from m2a.machine.memory import read_memory

GIB = 2**30


@pytest.fixture
def free(tmp_path):
    """What is free on a machine of 16 GiB, 8 of them available, under this cgroup's files."""

    def read(**group):
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/meminfo").write_text(
            f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\n"
        )
        folder = tmp_path / "sys/fs/cgroup"
        folder.mkdir(parents=True)
        for name, text in group.items():
            (folder / f"memory.{name}").write_text(f"{text}\n")
        return read_memory(root=tmp_path).free

    return read


def test_without_a_limit_it_is_what_the_machine_has(free):
    assert free(max="max", current=3 * GIB) == 8 * GIB


def test_what_the_container_has_taken_is_not_free(free):
    assert free(max=4 * GIB, current=3 * GIB, stat="anon 5\ninactive_file 0") == GIB


def test_files_that_can_be_dropped_are_free(free):
    stat = f"anon 5\nfile {2 * GIB}\nactive_file {GIB}\ninactive_file {GIB}"
    assert free(max=4 * GIB, current=3 * GIB, stat=stat) == 2 * GIB


def test_the_machine_may_have_less_than_the_limit_leaves(free):
    assert free(max=12 * GIB, current=GIB) == 8 * GIB


def test_a_limit_alone_is_taken_whole(free):
    assert free(max=4 * GIB) == 4 * GIB


def test_a_limit_that_was_lowered_below_what_is_taken_leaves_nothing(free):
    assert free(max=GIB, current=2 * GIB) == 0
