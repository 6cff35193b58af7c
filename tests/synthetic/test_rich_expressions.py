"""Every expression of the rich world, read a second time from its words, on pixels and trajectories."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest

from refstream.synthetic.minirvos import MiniRVOS
from refstream.synthetic.rich_expressions import RICH_FAMILIES, STILL_FAMILIES
from refstream.synthetic.scene import COLOURS, SHAPES
from tests.synthetic.reading import NOUNS, SIZE_WORDS, Watched, read

CLAUSE = re.compile(r" that (was|started|came|entered|will|is) ")


@lru_cache(maxsize=1)
def _watched_clips():
    clips = [*MiniRVOS("test", seed=21, num_clips=45), *MiniRVOS("train", seed=22, num_clips=40)]
    stills = MiniRVOS("val", seed=23)
    clips += [stills.still(i, max_expressions=12) for i in range(25)]
    return [(clip, Watched(clip)) for clip in clips]


def _said(*families):
    for clip, watched in _watched_clips():
        for expression in clip.expressions:
            if expression.family in families:
                yield clip, watched, expression


@pytest.mark.parametrize("family", RICH_FAMILIES)
def test_every_expression_means_its_targets_alone(family):
    count = 0
    for clip, watched, expression in _said(family):
        found, decided = read(expression.text, watched)
        assert tuple(found) == expression.object_ids, (clip.id, expression.text)
        assert decided, (clip.id, expression.text)
        count += 1
    assert count > 25


@pytest.mark.parametrize("family", [f for f in RICH_FAMILIES if f != "absent"])
def test_colour_and_size_words_are_needed_and_a_look_alike_is_there(family):
    for clip, watched, expression in _said(family):
        ids = expression.object_ids
        mine = [clip.scene.objects[i] for i in ids]
        others = [obj for i, obj in enumerate(clip.scene.objects) if i not in ids]
        assert any(a.shape == b.shape or set(a.colours) & set(b.colours) for a in mine for b in others), (
            clip.id,
            expression.text,
        )
        head, rest = _split(expression.text)
        for word in set(head.split()) & {*COLOURS, *SIZE_WORDS}:
            less = re.sub(rf"\b{word}\b", "", head).replace("that is and ", "that is ")
            less = re.sub(r" that is *$| and *$", "", " ".join(less.split()))
            try:
                found, decided = read(f"{less}{rest}", watched)
            except (AssertionError, ValueError):  # the shorter words are undecided, or name no one anchor
                continue
            assert tuple(found) != ids or not decided, (clip.id, expression.text, word)


def _split(text):
    """The words for the objects in question, and all that follows."""
    sides = " (to the )?(left|right) of the | above the | below the | (higher|lower) than the "
    more = " and the | (closest|nearest) to the | that (was|started|came|entered|will|stands|moves|does) "
    found = re.search(f"{sides}|{more}", text)
    return (text[: found.start()], text[found.start() :]) if found else (text, "")


def test_history_needs_memory():
    """At the end another object of the same noun is what the words say, or looks the same."""
    kinds = Counter()
    for clip, watched, expression in _said("history"):
        (target,) = expression.object_ids
        noun = _split(re.sub(r"^(find|segment|show me) ", "", expression.text))[0]
        rivals = [i for i in watched.named(noun) if i != target and watched.shown[i][-1]]
        assert rivals, (clip.id, expression.text)
        kind = expression.meaning.kind
        kinds[kind] += 1
        if kind == "first_side":
            now, _ = read(re.sub(r" that (was|started) (.*?)( at first)?$", r" \2", expression.text), watched)
            end = {i: watched.where[i][-1] for i in (target, *rivals)}
            axis, sign = {"left": (0, 1), "right": (0, -1), "up": (1, 1), "down": (1, -1)}[
                expression.meaning.value
            ]
            assert min(end, key=lambda i: sign * end[i][axis]) != target
            assert now != [target]
        elif kind == "first_colour":
            last = watched.colours
            same = [i for i in rivals if clip.scene.objects[i].shape == clip.scene.objects[target].shape]
            said = expression.meaning.value
            assert last[target][-1] not in (said, None) or not watched.shown[target][-1]
            assert any(clip.scene.objects[i].colours[-1] in (said, last[target][-1]) for i in same)
        else:
            looks = [(o.shape, o.colours[-1], o.size) for o in clip.scene.objects]
            assert looks[target] in [looks[i] for i in rivals]
    assert set(kinds) == {"first_side", "first_colour", "entered", "original"}


def test_history_is_decided_by_the_first_frames():
    """Until its target is there, a history expression has an empty mask; from then on the target is known."""
    for clip, watched, expression in _said("history"):
        (target,) = expression.object_ids
        if expression.meaning.kind == "entered":
            assert not clip.target_mask(expression)[0].any()
            assert watched.shown[target][-1]
        else:
            assert watched.shown[target][:2].all()


def test_future_shows_its_target_and_a_rival_at_first():
    kinds = Counter()
    for clip, watched, expression in _said("future"):
        (target,) = expression.object_ids
        noun = _split(re.sub(r"^(find|segment|show me) ", "", expression.text))[0]
        kinds[expression.meaning.kind] += 1
        rivals = [i for i in watched.named(noun) if i != target and watched.shown[i][0]]
        assert rivals, (clip.id, expression.text)
        assert watched.shown[target][0]
        if expression.meaning.kind == "will_touch":  # who is touched stands still
            (anchor,) = watched.named(expression.text.split(" the ")[-1])
            assert not np.diff(watched.where[anchor], axis=0).any()
            assert np.diff(watched.where[target], axis=0)[0].any()
    assert set(kinds) == {"will_leave", "will_stop", "will_touch", "will_turn"}


def test_absent_words_occur_but_not_together():
    for clip, watched, expression in _said("absent"):
        words = set(expression.text.split()) - {
            "find",
            "segment",
            "show",
            "me",
            "the",
            "that",
            "is",
            "and",
            *NOUNS,
        }
        assert len(words) == 2
        for word in words:
            assert _occurs(word, clip, watched), (clip.id, expression.text, word)
        for i, obj in enumerate(clip.scene.objects):
            for told in watched.told[i]:
                assert not words <= {obj.shape, told, *_size_names(obj)}, (clip.id, expression.text)
        assert expression.object_ids == ()
        assert not expression.held_out
        assert not clip.target_mask(expression).any()


def _size_names(obj):
    return {word for word, size in SIZE_WORDS.items() if size == obj.size}


def _occurs(word, clip, watched):
    return any(
        word in {obj.shape, *_size_names(obj)} or word in watched.colours[i]
        for i, obj in enumerate(clip.scene.objects)
    )


def test_occluded_targets_vanish_and_come_back():
    for clip, watched, expression in _said("occlusion"):
        (target,) = expression.object_ids
        share = watched.area[target] / watched.area[target].max()
        hidden = np.flatnonzero(share <= 0.06)
        assert len(hidden) >= 2, (clip.id, expression.text)
        assert (share[: hidden[0]] > 0.3).any()
        assert (share[hidden[-1] :] > 0.3).any()
        obj = clip.scene.objects[target]
        assert any(
            (other.shape == obj.shape or other.colours == obj.colours)
            and (watched.area[j][hidden] > 0.25 * watched.area[j].max()).all()
            for j, other in enumerate(clip.scene.objects)
            if j != target
        )


def test_other_families_keep_their_targets_in_sight():
    for clip, watched, expression in _said("appearance", "relation"):
        (target,) = expression.object_ids
        share = watched.area[target] / watched.area[target].max()
        assert (share <= 0.02).sum() <= 1 or not watched.shown[target][0] or clip.scene.events


def test_several_objects():
    kinds = Counter()
    for clip, _, expression in _said("multi"):
        assert 2 <= len(expression.object_ids) < len(clip.scene.objects)
        union = np.logical_or.reduce([clip.object_masks[i] for i in expression.object_ids])
        np.testing.assert_array_equal(clip.target_mask(expression), union)
        kinds[expression.meaning.kind] += 1
    assert set(kinds) == {"all", "and"}


def test_stills_show_what_a_picture_can():
    families = {e.family for clip, _ in _watched_clips() if len(clip.frames) == 1 for e in clip.expressions}
    assert families == set(STILL_FAMILIES)


def test_shapes_are_named_where_nouns_are():
    """An expression never names a shape that none of its objects has."""
    for clip, _, expression in _said("appearance", "history", "future", "occlusion"):
        noun = _split(re.sub(r"^(find|segment|show me) ", "", expression.text))[0]
        (target,) = expression.object_ids
        assert {w for w in noun.split() if w in SHAPES} <= {clip.scene.objects[target].shape}
