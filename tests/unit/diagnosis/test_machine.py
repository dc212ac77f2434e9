"""Python, processor and memory, of machines that are not at hand."""

from __future__ import annotations

import pytest

from m2a.diagnosis.finding import Status
from m2a.diagnosis.machine import (
    memory_finding,
    processor_finding,
    python_finding,
    system_finding,
)


@pytest.fixture
def write(tmp_path):
    def add(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return add


def test_an_old_python_is_broken():
    assert python_finding((3, 9, 18)).status is Status.BROKEN
    assert python_finding((3, 10, 0)).status is Status.GOOD
    assert python_finding().status is Status.GOOD


def test_the_system_is_named():
    assert system_finding().found


def test_features_of_an_x86_processor(tmp_path, write):
    write("proc/cpuinfo", "model name\t: Some CPU\nflags\t\t: fpu avx2 fma avx512_vnni\n\n")
    finding = processor_finding(root=tmp_path, machine="x86_64")
    assert finding.status is Status.GOOD
    assert finding.found.startswith("Some CPU, ")
    assert finding.found.endswith("; avx2 fma avx512_vnni")


def test_x86_without_avx2_is_told(tmp_path, write):
    write("proc/cpuinfo", "model name\t: Old CPU\nflags\t\t: fpu sse4_2\n")
    assert processor_finding(root=tmp_path, machine="x86_64").status is Status.MISSING


def test_features_of_an_arm_processor(tmp_path, write):
    write("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    finding = processor_finding(root=tmp_path, machine="aarch64")
    assert finding.status is Status.GOOD
    assert finding.found.endswith("; asimd asimddp")


def test_where_linux_files_are_not_there_it_is_unknown(tmp_path):
    assert processor_finding(root=tmp_path, machine="arm64").status is Status.MISSING
    finding = memory_finding(root=tmp_path)
    assert finding.status is Status.MISSING
    assert "unknown" in finding.found


def meminfo(available):
    return f"MemTotal: 8000000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\nHugePages: 0\n"


def test_memory(tmp_path, write):
    write("proc/meminfo", meminfo(4_000_000))
    finding = memory_finding(root=tmp_path)
    assert (finding.status, finding.found) == (Status.GOOD, "4.1 GB of 8.2 GB available")


def test_too_little_memory_is_broken(tmp_path, write):
    write("proc/meminfo", meminfo(100_000))
    assert memory_finding(root=tmp_path).status is Status.BROKEN


@pytest.mark.parametrize(("limit", "status"), [("300000000", "broken"), ("max", "good")])
def test_a_container_may_have_less(tmp_path, write, limit, status):
    write("proc/meminfo", meminfo(4_000_000))
    write("sys/fs/cgroup/memory.max", f"{limit}\n")
    assert memory_finding(root=tmp_path).status.value == status


def test_an_old_kernel_does_not_tell_what_is_available(tmp_path, write):
    write("proc/meminfo", "MemTotal: 8000000 kB\n")
    assert memory_finding(root=tmp_path).status is Status.MISSING
