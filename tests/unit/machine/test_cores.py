"""Cores that are left to a process, and the time on them that a container is given."""

from __future__ import annotations

import os

import pytest

from m2a.machine.cores import usable_cores


@pytest.fixture
def cores(tmp_path, monkeypatch):
    """The count on a machine of eight cores with this `cpu.max`."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def count(text):
        folder = tmp_path / "sys/fs/cgroup"
        folder.mkdir(parents=True)
        (folder / "cpu.max").write_text(text)
        return usable_cores(root=tmp_path)

    return count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("1000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("max 100000\n", 8),
        ("", 8),
    ],
)
def test_a_quota_of_time_counts_as_cores(cores, text, expected):
    assert cores(text) == expected


def test_without_cgroups_it_is_the_cores_that_are_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert usable_cores(root=tmp_path) == 2


def test_where_the_system_tells_no_affinity_it_is_all(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(root=tmp_path) == 6
