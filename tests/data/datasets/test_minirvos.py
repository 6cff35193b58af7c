"""MiniRVOS as training data."""

from __future__ import annotations

import numpy as np
import pytest

from refstream.data.collate import collate_clips
from refstream.data.datasets import MiniRVOSClips, MiniRVOSObjects, MiniRVOSStills
from refstream.data.datasets.minirvos import without_colours
from refstream.synthetic.scene import COLOURS, SHAPES


def test_a_still_repeats_and_its_masks_are_those_of_the_expressions() -> None:
    data = MiniRVOSStills(seed=3, expressions=5)
    sample, again = data[7], data[7]
    assert sample.frames.shape == (1, 128, 128, 3)
    assert 2 <= len(sample.expressions) <= 5
    assert sample.expressions == again.expressions
    assert np.array_equal(sample.frames, again.frames)
    clip = data.source.still(7, 5)
    assert np.array_equal(sample.masks[0], clip.target_mask(clip.expressions[0]))


def test_clips_of_one_length_make_a_batch() -> None:
    data = MiniRVOSClips(num_frames=4, expressions=3)
    batch = collate_clips([data[0], data[1]])
    assert batch.num_frames == 4
    assert len(batch.masks) == len(batch.expressions)


def test_objects_are_named_in_full() -> None:
    sample = MiniRVOSObjects()[0]
    for name in sample.expressions:
        size, colour, shape = name.split()
        assert size in ("small", "large")
        assert (shape, colour) in {(s, c) for s in SHAPES for c in COLOURS}


def test_a_frame_tells_colours_or_shapes_but_not_both() -> None:
    data = MiniRVOSObjects(recolour=0.5)
    told = {frozenset(data[i].expressions[0].split()[1:2]) <= set(SHAPES) for i in range(20)}
    assert told == {True, False}


def test_without_colours_leaves_little_of_them() -> None:
    frames = MiniRVOSObjects()[0].frames
    grey = without_colours(frames, np.random.default_rng(0)).astype(float)
    assert grey.std(axis=-1).mean() < 0.7 * frames.astype(float).std(axis=-1).mean() + 20


def test_an_impossible_share_is_refused() -> None:
    with pytest.raises(ValueError, match="recolour"):
        MiniRVOSObjects(recolour=1.5)
