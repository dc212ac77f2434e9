"""What glibc's malloc is told during a training, seen in how it takes memory from the kernel."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from m2a.training import memory
from m2a.training.memory import keeping_freed_memory

# In a process of its own: in one that has run other tests, the heap may have no room to grow.
SEEN = """
import ctypes
from m2a.training.memory import keeping_freed_memory

LARGE = 64 * 2**20  # above any threshold under which glibc would not ask the kernel for a mapping

class Mallinfo2(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.mallinfo2.restype = Mallinfo2

def takes_a_mapping():
    before = libc.mallinfo2().hblks
    block = libc.malloc(LARGE)
    taken = libc.mallinfo2().hblks - before
    libc.free(block)
    return taken == 1

with keeping_freed_memory() as applied:
    mapped, kept = takes_a_mapping(), libc.mallinfo2().arena
given_back = kept - libc.mallinfo2().arena >= LARGE
print(applied, mapped, kept > LARGE, given_back, takes_a_mapping())
"""


def seen(**environment):
    """Applied, a large block got a mapping of its own, was kept, was given back; and afterwards."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc's malloc is told")
    untuned = {
        name: value
        for name, value in os.environ.items()
        if name not in ("GLIBC_TUNABLES", *memory.TUNED_BY)
    }
    done = subprocess.run(
        [sys.executable, "-c", SEEN],
        env=untuned | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [word == "True" for word in done.stdout.split()]


def test_freed_memory_is_kept_meanwhile_and_given_back_at_the_end():
    applied, mapped, kept, given_back, mapped_afterwards = seen()
    assert (applied, mapped, kept) == (True, False, True)
    assert (given_back, mapped_afterwards) == (True, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_MMAP_MAX_", "65536"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=65536")],
)
def test_what_the_environment_tunes_is_left_alone(name, value):
    applied, mapped, *_ = seen(**{name: value})
    assert (applied, mapped) == (False, True)


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with keeping_freed_memory() as applied:
        assert not applied
