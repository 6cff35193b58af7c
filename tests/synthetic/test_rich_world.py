"""The rich world: draws, families, events, options."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections import Counter

import numpy as np
import pytest

from refstream.synthetic.choosing import draw_demands
from refstream.synthetic.minirvos import MAX_RICH_FRAMES, MiniRVOS
from refstream.synthetic.rich_expressions import RICH_FAMILIES, STILL_FAMILIES
from refstream.synthetic.scene import EVENT_KINDS, allowed_pairs, held_out_pairs
from refstream.synthetic.words import all_words
from tests.synthetic.reading import Watched


def _digest(clip):
    said = [(e.text, e.family, e.object_ids, e.held_out) for e in clip.expressions]
    parts = (clip.frames.tobytes(), np.packbits(clip.object_masks).tobytes(), repr((clip.id, said)).encode())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _digest_of(index):
    return _digest(MiniRVOS("test", 5, 8, size=64)[index])


def test_any_clip_in_any_order_and_process():
    data = MiniRVOS("test", 5, 8, size=64)
    backwards = [_digest(data[i]) for i in (3, 2, 1)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_digest_of, [1, 2, 3]) == backwards[::-1]
    assert len(set(backwards)) == 3


def test_frozen_draw():
    """What seed 0 draws must not change, or results on it could no longer be compared."""
    data = MiniRVOS("test", 0, 2)
    assert [e.text for e in data[0].expressions] == FROZEN_TEXTS
    assert [e.text for e in data.still(0, 4).expressions] == FROZEN_STILL_TEXTS


FROZEN_TEXTS = [
    "the thing that will leave the picture",
    "segment the bottommost circle",
    "find the triangle nearest to the white star",
    "the star",
]
FROZEN_STILL_TEXTS = [
    "the big ring and the triangle",
    "show me the little star",
    "find the purple object above the purple ring",
    "segment the star",
]


@pytest.mark.parametrize(("num_frames", "most"), [(24, 4), (24, 3), (8, 4)])
def test_families_are_balanced(num_frames, most):
    data = MiniRVOS("train", 1, 90, num_frames, 32, max_expressions=most)
    counts = Counter(e.family for clip in data for e in clip.expressions)
    assert set(counts) == set(RICH_FAMILIES)
    for family in RICH_FAMILIES:
        assert counts[family] / counts.total() == pytest.approx(1 / 8, abs=0.05), family


@pytest.mark.parametrize("most", [2, 3, 4, 7])
@pytest.mark.parametrize(
    "families", [RICH_FAMILIES, ("appearance", "history"), ("absent", "multi", "future")]
)
def test_demands_weigh_all_families_alike(families, most):
    rng = np.random.default_rng(0)
    drawn = [draw_demands(rng, families, most) for _ in range(4000)]
    assert {len(demands) for demands in drawn} == {most}
    counts = Counter(family for demands in drawn for family in demands)
    for family in families:
        assert counts[family] / counts.total() == pytest.approx(1 / len(families), abs=0.012)


def test_clips_have_different_targets_and_known_words():
    known = set(all_words())
    for clip in MiniRVOS("val", 2, 40, size=32):
        targets = {e.object_ids for e in clip.expressions}
        assert 2 <= len(clip.expressions) <= 4
        assert len(targets) >= 2
        assert any(targets)
        assert {word for e in clip.expressions for word in e.text.split()} <= known


@pytest.mark.parametrize("num_frames", [4, 8])
def test_short_clips_show_what_they_can(num_frames):
    data = MiniRVOS("train", num_clips=1, num_frames=num_frames)
    assert ("motion" in data.families) == (num_frames >= 4)
    assert ("history" in data.families) == (num_frames >= 8)
    assert len(data[0].frames) == num_frames


@pytest.mark.parametrize("family", [f for f in RICH_FAMILIES if f != "absent"])
def test_one_family(family):
    data = MiniRVOS("train", 3, 3, 12, 32, [family])
    for clip in data:
        assert {e.family for e in clip.expressions} == {family}
        assert len({e.object_ids for e in clip.expressions}) >= 2


def test_held_out_pairs_hold_after_changes_of_colour():
    held_out = 0
    for split in ("train", "val", "test"):
        for clip in MiniRVOS(split, 4, 40, 12, 32):
            pairs = [{(obj.shape, colour) for colour in obj.colours} for obj in clip.scene.objects]
            assert set().union(*pairs) <= allowed_pairs(split)
            for expression in clip.expressions:
                named = set().union(*(pairs[i] for i in expression.object_ids))
                assert expression.held_out == bool(named & held_out_pairs(split))
                held_out += expression.held_out
                phrase = expression.meaning.phrase
                if phrase.shape and phrase.colour:
                    assert (phrase.shape, phrase.colour) in allowed_pairs(split)
        assert (held_out > 0) == (split != "train")


def test_events_are_what_the_pixels_show():
    kinds = Counter()
    for clip in MiniRVOS("train", 6, 70, 16):
        watched = Watched(clip)
        for event in clip.scene.events:
            kinds[event.kind] += 1
            CHECKS[event.kind](watched, event.frame, *event.object_ids)
    assert set(kinds) == set(EVENT_KINDS)


def _enters(watched, frame, i):
    first = np.flatnonzero(watched.shown[i])[0]
    assert abs(first - frame) <= 1
    assert first > 0


def _leaves(watched, frame, i):
    last = np.flatnonzero(watched.shown[i])[-1]
    assert abs(last + 1 - frame) <= 1
    assert last < len(watched.frames) - 1


def _recolours(watched, frame, *ids):
    for i in ids:
        before, after = (
            {c for c in part if c} for part in (watched.colours[i][:frame], watched.colours[i][frame:])
        )
        assert len(before) <= 1
        assert len(after) <= 1
        assert not before & after


def _exchanges(watched, frame, a, b):
    _recolours(watched, frame, a, b)
    swapped = [watched.colours[i][t] for i, t in ((a, 0), (b, -1), (b, 0), (a, -1))]
    if all(swapped):
        assert swapped[0] == swapped[1] != swapped[2] == swapped[3]


def _touches(watched, frame, a, b):
    assert watched.touches(a, b, frame, 2)
    assert not watched.touches(a, b, frame - 2, 1)
    assert not watched.touches(a, b, 0, 2)


def _stops(watched, frame, i):
    steps = np.abs(np.diff(watched.where[i], axis=0)).max(1)
    assert (steps[:frame] > 1e-9).all()
    assert (steps[frame:] == 0).all()


CHECKS = {
    "enter": _enters,
    "leave": _leaves,
    "recolour": _recolours,
    "exchange": _exchanges,
    "touch": _touches,
    "stop": _stops,
}


def test_some_frames_of_a_clip_are_those_of_the_whole():
    data = MiniRVOS("train", 7, 12, 12, 64)
    for index in (0, 5, 11):
        whole, part = data[index], data.clip(index, [2, 3, 9])
        assert part.frame_indices == (2, 3, 9)
        assert whole.frame_indices == tuple(range(12))
        assert part.expressions == whole.expressions
        np.testing.assert_array_equal(part.frames, whole.frames[[2, 3, 9]])
        np.testing.assert_array_equal(part.object_masks, whole.object_masks[:, [2, 3, 9]])
    for frames in ([], [12], [-1]):
        with pytest.raises(IndexError, match="12"):
            data.clip(0, frames)


def test_one_scene_at_two_sizes():
    small, large = (MiniRVOS("test", 8, 1, size=size)[0] for size in (64, 256))
    assert small.expressions == large.expressions
    shares = [clip.object_masks.mean((2, 3)) for clip in (small, large)]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.012)


@pytest.mark.parametrize("size", [(96, 160), (75, 133), (160, 96)])
def test_other_sizes(size):
    clip = MiniRVOS("train", 9, 1, size=size)[0]
    assert clip.frames.shape == (8, *size, 3)
    assert clip.object_masks.shape == (len(clip.scene.objects), 8, *size)


def test_stills():
    data = MiniRVOS("train", 10)
    clips = [data.still(i) for i in range(30)]
    counts = Counter(e.family for clip in clips for e in clip.expressions)
    assert all(clip.frames.shape == (1, 128, 128, 3) for clip in clips)
    assert min(len(clip.expressions) for clip in clips) >= 6
    for family in STILL_FAMILIES:
        assert counts[family] / counts.total() == pytest.approx(1 / 4, abs=0.04)
    kinds = {obj.texture.kind for clip in clips for obj in clip.scene.objects}
    assert kinds == {"solid", "stripes", "dots", "checks", "shaded"}
    assert any(clip.scene.occluders for clip in clips)


def test_worlds_are_apart():
    plain, rich = (MiniRVOS("train", 0, 1, world=world)[0] for world in ("plain", "rich"))
    assert plain.id != rich.id
    assert plain.frames.tobytes() != rich.frames.tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"world": "real"}, "world must be one of"),
        ({"families": ["taste"]}, "subset of"),
        ({"families": ["absent"]}, "beside absent"),
        ({"num_frames": 5, "families": ["motion", "future"]}, "future needs 8"),
        ({"num_frames": MAX_RICH_FRAMES + 1}, "at most"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        MiniRVOS("train", **options)


def test_what_a_still_cannot_show():
    with pytest.raises(ValueError, match="a still cannot show history"):
        MiniRVOS("train", families=["history"]).still(0)
