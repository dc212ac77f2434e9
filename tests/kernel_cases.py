"""A device's kernels against NumPy, bit for bit but for logarithms: on the CPU, or on a GPU."""

from __future__ import annotations

import numpy as np

from m2a.runtime.ensemble import logit, sigmoid, turns_of
from m2a.runtime.gpu.buffers import Buffers
from m2a.runtime.gpu.kernels import Kernels, Picture, Size
from m2a.runtime.gpu.sites import SiteBuilder
from m2a.runtime.graph_inputs import extract_patches, mask_graph_image
from m2a.runtime.pixels import Colour
from m2a.runtime.sites import build_sites, dilate, pad_image, pad_mask

(AS_IS,) = turns_of(1)


class Bench:
    """Arrays to a device and back, and the kernels in between; within `device.active()`."""

    def __init__(self, device):
        self.device = device
        self.kernels = Kernels(device)
        self.buffers = Buffers(device)
        self._count = 0

    def put(self, array):
        address = self.room(array.nbytes)
        staged = self.device.pinned(max(array.nbytes, 1))[: array.nbytes]
        staged.view(array.dtype)[:] = array.reshape(-1)
        self.device.upload(address, staged)
        self.device.wait()
        return address

    def room(self, size):
        self._count += 1
        return self.buffers.reserve(f"room {self._count}", size)

    def get(self, address, shape, dtype):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        staged = self.device.pinned(max(size, 1))[:size]
        self.device.download(staged, address)
        self.device.wait()
        return staged.view(dtype).reshape(shape).copy()


def check_tables(device, mask):
    """All tables of a mask without padding; returns the counts."""
    padded = pad_mask(mask)
    expected = build_sites(padded)
    with device.active():
        bench = Bench(device)
        builder = SiteBuilder(device, bench.kernels, bench.buffers)
        counts = builder.count(bench.put(padded.view(np.uint8)), Size(**sides(mask)))
        assert counts == expected.counts
        sites = builder.build(counts)
        assert set(sites.tables) == set(expected.tables)
        for name, table in expected.tables.items():
            tensor = sites.tables[name]
            assert tensor.shape == table.shape, name
            found = bench.get(tensor.address, tensor.shape, np.int32)
            assert np.array_equal(found, table), name
        pixels = bench.get(sites.pixels, (counts[0],), np.int32)
        assert np.array_equal(pixels, expected.pixels)
    return counts


def check_count(device, mask):
    """The counts of a mask that may be empty."""
    with device.active():
        bench = Bench(device)
        builder = SiteBuilder(device, bench.kernels, bench.buffers)
        counts = builder.count(bench.put(pad_mask(mask).view(np.uint8)), Size(**sides(mask)))
    assert counts[0] == mask.sum()
    return counts


def check_mask(device, probability, threshold, radius):
    """Threshold and dilation; `probability` is padded by what lies beyond the threshold."""
    size = Size(**sides(probability))
    padded = np.ones((size.padded_height, size.padded_width), np.float32)
    padded[: size.height, : size.width] = probability
    with device.active():
        bench = Bench(device)
        narrow, between, out = (bench.room(size.padded) for _ in range(3))
        bench.kernels.threshold_mask(bench.put(padded), narrow, size, threshold)
        bench.kernels.dilate(narrow, between, out, size, radius)
        found = bench.get(out, padded.shape, np.uint8)
    assert np.array_equal(found, pad_mask(dilate(probability >= threshold, radius)))


def check_picture(device, source, mask, residual):
    """Planes and patches of a picture, and the residual added to it."""
    colour = Colour(source=source)
    size = Size(height=colour.height, width=colour.width)
    surroundings = pad_image(colour.to_float())
    pixels = np.flatnonzero(pad_mask(mask)).astype(np.int32)
    with device.active():
        bench = Bench(device)
        picture = Picture.of(source, bench.put(source))
        planes = bench.room(12 * size.padded)
        bench.kernels.planes(picture, planes, size, AS_IS)
        shape = (1, 3, size.padded_height, size.padded_width)
        assert np.array_equal(bench.get(planes, shape, np.float32), mask_graph_image(surroundings))
        at, patches = bench.put(pixels), bench.room(300 * len(pixels))
        bench.kernels.patches(picture, at, patches, len(pixels), size, AS_IS)
        assert np.array_equal(
            bench.get(patches, (len(pixels), 75), np.float32),
            extract_patches(surroundings, pixels.astype(np.int64)),
        )
        bench.kernels.add_residual(picture, bench.put(residual), at, len(pixels), size)
        found = bench.get(picture.address, source.shape, source.dtype)
    expected = colour.with_residual(mask, residual)
    assert np.array_equal(found, expected)
    assert found[~mask].tobytes() == source[~mask].tobytes()


def check_turned(device, source, mask, turn):
    """Planes, patches and mask of a picture as the graphs see it in a turn."""
    colour = Colour(source=source)
    size = Size(height=colour.height, width=colour.width)
    surroundings = np.ascontiguousarray(turn.apply(pad_image(colour.to_float())))
    padded = pad_mask(mask)
    turned = np.ascontiguousarray(turn.apply(padded))
    pixels = np.flatnonzero(turned)
    with device.active():
        bench = Bench(device)
        picture = Picture.of(source, bench.put(source))
        planes, patches = bench.room(12 * size.padded), bench.room(300 * len(pixels))
        bench.kernels.planes(picture, planes, size, turn)
        expected = mask_graph_image(surroundings)
        assert np.array_equal(bench.get(planes, expected.shape, np.float32), expected)
        at = bench.put(pixels.astype(np.int32))
        bench.kernels.patches(picture, at, patches, len(pixels), size, turn)
        found = bench.get(patches, (len(pixels), 75), np.float32)
        assert np.array_equal(found, extract_patches(surroundings, pixels))
        out = bench.room(size.padded)
        bench.kernels.turn_mask(bench.put(padded.view(np.uint8)), out, size, turn)
        assert np.array_equal(bench.get(out, turned.shape, np.bool_), turned)
        assert size.turned(turn).padded_sides == turned.shape


def check_means(device, mask, turns, seed):
    """Mean residuals, bit for bit, and the probability of the mean logit, over some turns."""
    rng = np.random.default_rng(seed)
    size, padded = Size(**sides(mask)), pad_mask(mask)
    count = int(mask.sum())
    sums, total = np.zeros((*padded.shape, 3), np.float32), np.zeros(padded.shape, np.float32)
    with device.active():
        bench = Bench(device)
        on_device, logits = bench.room(12 * size.padded), bench.room(4 * size.padded)
        for turn in turns:
            first = turn is turns[0]
            values = rng.normal(0, 1, (count, 3)).astype(np.float32)
            turn.apply(sums)[turn.apply(padded)] += values
            pixels = bench.put(np.flatnonzero(turn.apply(padded)).astype(np.int32))
            residual = bench.put(values)
            bench.kernels.add_turned_residual(
                residual, pixels, on_device, count, size, turn, first=first
            )
            probability = rng.random(turn.apply(padded).shape, dtype=np.float32)
            probability.flat[:4] = 0, 1, 1e-30, 0.5
            turn.apply(total)[...] += logit(probability)
            bench.kernels.add_logits(bench.put(probability), logits, size, turn, first=first)
        bench.kernels.mean_residual(on_device, pixels, residual, count, size, turn, len(turns))
        places = bench.get(pixels, (count,), np.int32)
        assert np.array_equal(np.sort(places), np.flatnonzero(padded))
        found = bench.get(residual, (count, 3), np.float32)
        assert np.array_equal(found, sums.reshape(-1, 3)[places] / np.float32(len(turns)))
        bench.kernels.mean_probability(logits, on_device, size, len(turns))
        mean = bench.get(on_device, padded.shape, np.float32)
    assert np.abs(mean - sigmoid(total / np.float32(len(turns)))).max() <= 1e-6


def sides(array):
    return {"height": array.shape[0], "width": array.shape[1]}
