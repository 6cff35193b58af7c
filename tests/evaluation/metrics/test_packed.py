"""Packed masks against pixel-by-pixel definitions, with widths around the 64 bits of a word."""

from __future__ import annotations

import numpy as np
import pytest

from refstream.evaluation.metrics import packed
from refstream.evaluation.metrics.jf import boundary_map

SIZES = [(1, 1), (1, 7), (7, 1), (5, 63), (5, 64), (5, 65), (3, 128), (40, 130), (2, 200)]


def _unpack(words, width):
    """(N, H, S) uint64 -> (N, H, W) bool, bit by bit."""
    bits = (words[..., None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    return bits.reshape(*words.shape[:2], -1)[:, :, :width].astype(bool)


def _masks(size, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((5, *size)) < np.array([0.0, 1.0, 0.01, 0.3, 0.9])[:, None, None]


@pytest.mark.parametrize("size", SIZES)
def test_pack_and_count(size):
    masks = _masks(size)
    words = packed.pack(list(masks))
    assert words.shape == (5, size[0], -(-size[1] // 64))
    assert words.dtype == np.uint64
    assert (_unpack(words, size[1]) == masks).all()
    assert packed.count(words).tolist() == [int(mask.sum()) for mask in masks]


def test_pack_takes_any_memory_layout():
    mask = _masks((40, 130))[3]
    expected = packed.pack([mask]).tolist()
    assert packed.pack([np.asfortranarray(mask)]).tolist() == expected
    assert packed.pack([mask[::-1, ::-1].copy()[::-1, ::-1]]).tolist() == expected


@pytest.mark.parametrize("size", SIZES)
def test_boundary(size):
    masks = _masks(size)
    words = packed.boundary(packed.pack(list(masks)), size[1])
    assert (_unpack(words, size[1]) == np.stack([boundary_map(mask) for mask in masks])).all()
    assert packed.count(words).tolist() == [int(boundary_map(mask).sum()) for mask in masks]  # none beyond W


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("radius", [1, 2, 8, 18, 64, 150])
def test_dilation_is_by_distance(size, radius):
    masks = _masks(size)
    found = _unpack(packed.dilate(packed.pack(list(masks)), radius), size[1])
    pixels = np.argwhere(np.ones(size, dtype=bool))
    for mask, dilated in zip(masks, found, strict=True):
        seeds = np.argwhere(mask)
        if len(seeds) > 300:  # the distances of all pairs would take long
            continue
        distance_sq = ((pixels[:, None] - seeds[None]) ** 2).sum(-1)
        expected = (distance_sq <= radius**2).any(axis=1).reshape(size)
        assert (dilated == expected).all()


def test_crop_is_the_common_box():
    first, second = np.zeros((2, 20, 300), dtype=bool)
    first[4, 70] = second[9, 140] = True
    cropped = packed.crop(packed.pack([first, second]))
    assert cropped.shape == (2, 6, 2)  # rows 4 to 9, words 1 and 2
    assert packed.count(cropped).tolist() == [1, 1]
