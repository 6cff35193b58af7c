"""MiniRVOS as training data."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from refstream.data.collate import collate_clips
from refstream.data.datasets import MiniRVOSClips, MiniRVOSObjects, MiniRVOSStills
from refstream.data.datasets.minirvos import without_colours
from refstream.data.sampling import choose_frames
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


@pytest.mark.parametrize("how", ["contiguous", "random_sorted", "dilated"])
def test_some_frames_of_a_longer_clip(how: str) -> None:
    data = MiniRVOSClips(num_frames=3, clip_length=12, sampling=how, size=64)  # type: ignore[arg-type]
    sample = data.sample(4, np.random.default_rng(7))
    frames = choose_frames(12, 3, how, np.random.default_rng(7))
    whole = data.source[4]
    assert np.array_equal(sample.frames, whole.frames[frames])
    assert sample.expressions == [expression.text for expression in whole.expressions]
    assert np.array_equal(sample.masks[1], whole.target_mask(whole.expressions[1])[frames])
    again, other = (data.sample(4, np.random.default_rng(seed)) for seed in (7, 8))
    assert np.array_equal(again.frames, sample.frames)
    assert not np.array_equal(other.frames, sample.frames)
    assert np.array_equal(data[4].frames, data[4].frames)


def test_absent_targets_have_empty_masks() -> None:
    data = MiniRVOSStills(families=["absent", "appearance"], size=64)
    empty = [not mask.any() for i in range(6) for mask in data[i].masks]
    assert 0 < sum(empty) < len(empty)


@pytest.mark.parametrize("kind", [MiniRVOSStills, MiniRVOSClips, MiniRVOSObjects])
def test_either_world(kind: type) -> None:
    ids = {world: kind(world=world, length=2, size=64)[1].id for world in ("plain", "rich")}
    assert ids["rich"].startswith("minirvos_rich_train_0_")
    assert ids["plain"] == ids["rich"].replace("_rich", "")
    assert len(kind(length=2)) == 2
    default = "plain" if kind is MiniRVOSObjects else "rich"
    assert kind(length=2, size=64)[1].id == ids[default]


def test_objects_of_the_plain_world_are_what_the_parts_were_trained_on() -> None:
    sample = MiniRVOSObjects(recolour=0.75, how="mixed", seed=4)[5]
    digest = hashlib.sha256(sample.frames.tobytes() + repr(sample.expressions).encode()).hexdigest()
    assert digest[:16] == "660422381e6bb366"


def test_clips_longer_than_the_sample_only() -> None:
    with pytest.raises(ValueError, match="clip_length must be at least num_frames = 4, got 3"):
        MiniRVOSClips(clip_length=3)
    with pytest.raises(ValueError, match="sampling"):
        MiniRVOSClips(sampling="often")  # type: ignore[arg-type]


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


def test_a_sample_can_begin_where_the_stream_begins() -> None:
    keys = dict(num_frames=3, clip_length=12, sampling="random_sorted", length=20)
    begins, anywhere = MiniRVOSClips(**keys, from_start=True), MiniRVOSClips(**keys)
    first = [begins.source.clip(i, [0]).frames[0] for i in range(20)]
    assert all((begins[i].frames[0] == first[i]).all() and len(begins[i].frames) == 3 for i in range(20))
    assert not all((anywhere[i].frames[0] == first[i]).all() for i in range(20))
