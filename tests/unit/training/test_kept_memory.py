"""What glibc's malloc is told during a training, seen in how it takes memory from the kernel."""

from __future__ import annotations

import ctypes
import platform

import pytest

from m2a.training import memory
from m2a.training.memory import keeping_freed_memory

LARGE = 64 * 2**20
"""Bytes above any threshold under which glibc would not ask the kernel for a mapping."""


class Mallinfo2(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


@pytest.fixture
def libc(monkeypatch):
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc's malloc is told")
    for name in ("GLIBC_TUNABLES", *memory.TUNED_BY):
        monkeypatch.delenv(name, raising=False)
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.mallinfo2.restype = Mallinfo2
    return libc


def takes_a_mapping(libc):
    """Whether a large block gets a mapping of its own from the kernel."""
    before = libc.mallinfo2().hblks
    block = libc.malloc(LARGE)
    taken = libc.mallinfo2().hblks - before
    libc.free(block)
    return taken == 1


def test_freed_memory_is_kept_meanwhile_and_given_back_at_the_end(libc):
    with keeping_freed_memory() as applied:
        assert applied
        assert not takes_a_mapping(libc)
        kept = libc.mallinfo2().arena
        assert kept > LARGE
    assert libc.mallinfo2().arena <= kept - LARGE
    assert takes_a_mapping(libc)


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_MMAP_MAX_", "65536"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=65536")],
)
def test_what_the_environment_tunes_is_left_alone(libc, monkeypatch, name, value):
    with keeping_freed_memory():
        pass  # from here on the ordinary values hold, whatever ran before
    monkeypatch.setenv(name, value)
    with keeping_freed_memory() as applied:
        assert not applied
        assert takes_a_mapping(libc)


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with keeping_freed_memory() as applied:
        assert not applied
