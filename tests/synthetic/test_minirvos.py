"""The plain world."""

from __future__ import annotations

import hashlib
import json
from functools import partial

import numpy as np
import pytest

from refstream.synthetic.expressions import FAMILIES, FAMILY_SHARES, all_words
from refstream.synthetic.minirvos import MiniRVOS as AnyMiniRVOS
from refstream.synthetic.scene import (
    COLOURS,
    SHAPES,
    TEST_HELD_OUT,
    VAL_HELD_OUT,
    allowed_pairs,
    held_out_pairs,
)

MiniRVOS = partial(AnyMiniRVOS, world="plain")


def _pairs(clip):
    return {(obj.shape, obj.colour) for obj in clip.scene.objects}


def _target_pair(clip, expression):
    obj = clip.scene.objects[expression.object_ids[0]]
    return obj.shape, obj.colour


def test_any_clip_at_any_time():
    data, again = MiniRVOS("test", seed=5, num_clips=6), MiniRVOS("test", seed=5, num_clips=3)
    last = data[2]
    _ = data[0], data.still(2)
    for other in (data[2], again[2]):
        assert other.id == last.id
        assert other.expressions == last.expressions
        np.testing.assert_array_equal(other.frames, last.frames)
        np.testing.assert_array_equal(other.object_masks, last.object_masks)


def test_frozen_draw():
    """What seed 0 draws must not change, or results on it could no longer be compared."""
    clip = MiniRVOS("test", seed=0, num_clips=1)[0]
    assert [e.text for e in clip.expressions] == FROZEN_TEXTS
    assert [int(n) for n in clip.object_masks[:, 0].sum((1, 2))] == FROZEN_AREAS


FROZEN_TEXTS = [
    "segment the thing that is big and yellow",
    "the triangle",
    "find the cyan thing",
    "show me the yellow square",
]
FROZEN_AREAS = [167, 841, 900]


@pytest.mark.parametrize(
    ("split", "seed", "clip_digest", "still_digest"),
    [
        ("train", 0, "130c14326ef7aa66", "0274711cc9c6fde5"),
        ("val", 3, "d653229ab2456eca", "d04db58a28704915"),
        ("test", 0, "1956c5e770e53367", "74117da1e118cc77"),
    ],
)
def test_frozen_pixels(split, seed, clip_digest, still_digest):
    """Pixels, masks, words and ids of what published numbers rest on."""
    data = MiniRVOS(split, seed, 12)
    assert _digest(data[3]) == clip_digest
    assert _digest(data.still(3, 6)) == still_digest


def _digest(clip):
    digest = hashlib.sha256(clip.frames.tobytes())
    digest.update(np.packbits(clip.object_masks).tobytes())
    said = [(e.text, e.family, list(e.object_ids), bool(e.held_out)) for e in clip.expressions]
    digest.update(json.dumps(said).encode())
    digest.update(clip.id.encode())
    return digest.hexdigest()[:16]


def test_streams_are_disjoint():
    clips = [MiniRVOS(s, seed, 1)[0] for s in ("train", "val", "test") for seed in (0, 1)]
    clips += [MiniRVOS("train").still(0)]
    assert len({clip.id for clip in clips}) == len(clips)
    assert len({clip.frames[0].tobytes() for clip in clips}) == len(clips)


def test_held_out_pairs():
    assert not VAL_HELD_OUT & TEST_HELD_OUT
    train = allowed_pairs("train")
    assert {shape for shape, _ in train} == set(SHAPES)
    assert {colour for _, colour in train} == set(COLOURS)
    for split in ("train", "val", "test"):
        data = MiniRVOS(split, num_clips=1)
        clips = [data.still(i) for i in range(60)]
        assert all(_pairs(clip) <= allowed_pairs(split) for clip in clips)
        held_out = 0
        for clip in clips:
            for expression in clip.expressions:
                assert expression.held_out == (_target_pair(clip, expression) in held_out_pairs(split))
                held_out += expression.held_out
        assert (held_out > 0) == (split != "train")
    assert allowed_pairs("train") & (VAL_HELD_OUT | TEST_HELD_OUT) == set()
    assert allowed_pairs("val") & TEST_HELD_OUT == set()


def test_shapes_and_types():
    clip = MiniRVOS("train", num_clips=1)[0]
    n = len(clip.scene.objects)
    assert 3 <= n <= 5
    assert clip.frames.shape == (8, 128, 128, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.object_masks.shape == (n, 8, 128, 128)
    assert clip.object_masks.dtype == bool
    for expression in clip.expressions:
        mask = clip.target_mask(expression)
        assert mask.shape == (8, 128, 128)
        assert mask.dtype == bool


@pytest.mark.parametrize("size", [64, (96, 160), (160, 96), (75, 133)])
def test_other_sizes(size):
    clip = MiniRVOS("train", num_clips=1, size=size)[0]
    assert clip.frames.shape[1:3] == ((size, size) if isinstance(size, int) else size)
    assert clip.object_masks.any((2, 3)).all()


def test_one_scene_at_two_sizes():
    small, large = (MiniRVOS("test", num_clips=1, size=size)[0] for size in (64, 256))
    assert small.expressions == large.expressions
    shares = [clip.object_masks.mean((2, 3)) for clip in (small, large)]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.01)


@pytest.mark.parametrize("split", ["train", "test"])
def test_targets_stay_visible(split):
    for clip in MiniRVOS(split, seed=1, num_clips=25):
        areas = clip.object_masks.sum((2, 3))
        for expression in clip.expressions:
            area = areas[expression.object_ids[0]]
            hidden = area < 0.2 * area.max()
            assert hidden.sum() <= 3
            assert not hidden[0]


def test_expressions():
    known = set(all_words())
    counts = dict.fromkeys(FAMILIES, 0)
    for clip in MiniRVOS("test", seed=2, num_clips=40):
        texts = [e.text for e in clip.expressions]
        assert len({e.object_ids for e in clip.expressions}) >= 2
        assert 2 <= len(texts) <= 4
        for expression in clip.expressions:
            assert set(expression.text.split()) <= known
            counts[expression.family] += 1
    total = sum(counts.values())
    for family, share in FAMILY_SHARES.items():
        assert counts[family] / total == pytest.approx(share, abs=0.12)


def test_stills_have_many_expressions():
    data = MiniRVOS("train", num_clips=1)
    clips = [data.still(i) for i in range(20)]
    assert all(len(clip.frames) == 1 for clip in clips)
    assert min(len(clip.expressions) for clip in clips) >= 4
    assert {e.family for clip in clips for e in clip.expressions} == {"appearance", "relation"}
    assert np.mean([len({e.object_ids for e in clip.expressions}) for clip in clips]) > 2.5


@pytest.mark.parametrize("family", FAMILIES)
def test_one_family(family):
    data = MiniRVOS("train", num_clips=3, families=[family])
    assert {e.family for clip in data for e in clip.expressions} == {family}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "split"),
        ({"split": "test", "seed": -1}, "seed"),
        ({"split": "test", "num_clips": 0}, "num_clips"),
        ({"split": "test", "size": 16}, "32 x 32"),
        ({"split": "test", "num_frames": 0}, "at least 1 frame"),
        ({"split": "test", "families": ["history"]}, "families"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        MiniRVOS(**options)


def test_bad_indices():
    data = MiniRVOS("train", num_clips=2)
    for index in (-1, 2):
        with pytest.raises(IndexError):
            data[index]
    with pytest.raises(IndexError):
        data.still(-1)
    with pytest.raises(ValueError, match="motion"):
        MiniRVOS("train", families=["motion"]).still(0)
    with pytest.raises(ValueError, match="more frames"):
        MiniRVOS("train", families=["motion"], num_frames=2)[0]
