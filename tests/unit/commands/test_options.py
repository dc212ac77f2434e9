"""Options that several commands share."""

from __future__ import annotations

import click
import pytest

from m2a.commands.options import MemorySize


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 2**20),
        ("512K", 512 * 2**10),
        ("800MiB", 800 * 2**20),
        ("800 mb", 800 * 2**20),
        ("1.5G", 3 * 2**29),
        ("2GiB", 2**31),
        ("1T", 2**40),
    ],
)
def test_a_size_has_units_of_1024(text, size):
    assert MemorySize()(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "2 GiB of it", "1e9", "2Gi", "inf"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(click.BadParameter, match="expected a size such as 2GiB"):
        MemorySize()(text)
