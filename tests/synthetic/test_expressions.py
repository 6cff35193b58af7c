"""Every expression is checked against a second, slow reading of its *words* on the trajectories."""

from __future__ import annotations

import re

import numpy as np
import pytest

from refstream.synthetic.expressions import (
    FAMILIES,
    Meaning,
    NounPhrase,
    SceneFacts,
    all_words,
    meanings,
    resolve,
    target_of,
    to_words,
)
from refstream.synthetic.minirvos import MiniRVOS
from refstream.synthetic.scene import COLOURS, SHAPES, Background, Scene, SceneObject
from tests.synthetic.reading import SIZE_WORDS, Watched, read

PLAIN = Background("plain", (50, 50, 50), (50, 50, 50), 0.1, False, 0)


def _clips():
    yield from MiniRVOS("train", seed=11, num_clips=60, max_expressions=12, world="plain")
    yield from MiniRVOS("test", seed=12, num_clips=60, max_expressions=12, world="plain")
    stills = MiniRVOS("val", seed=13, world="plain")
    yield from (stills.still(i, max_expressions=16) for i in range(60))


def test_every_expression_means_its_target_alone_in_all_frames():
    count = dict.fromkeys(FAMILIES, 0)
    for clip in _clips():
        watched = Watched(clip)
        for expression in clip.expressions:
            found, decided = read(expression.text, watched)
            assert tuple(found) == expression.object_ids, (clip.id, expression.text)
            assert decided, (clip.id, expression.text)
            count[expression.family] += 1
    assert min(count.values()) > 100


def test_every_expression_needs_its_attribute_words():
    """Without any one attribute word they no longer mean the target alone; and a look-alike is there."""
    for clip in _clips():
        watched = Watched(clip)
        for expression in clip.expressions:
            target = clip.scene.objects[expression.object_ids[0]]
            others = [obj for obj in clip.scene.objects if obj is not target]
            assert any(obj.shape == target.shape or obj.colour == target.colour for obj in others)
            head, rest = _split_anchor(expression.text)
            for word in set(head.split()) & {*SHAPES, *COLOURS, *SIZE_WORDS}:
                less = re.sub(rf"\b{word}\b", "object" if word in SHAPES else "", head) + rest
                found, _ = read(less, watched)
                assert tuple(found) != expression.object_ids, (clip.id, expression.text, word)
            if expression.family != "appearance":
                assert len(watched.named(head)) > 1


def _split_anchor(text):
    sides = "to the left of|left of|to the right of|right of|above|higher than|below|lower than"
    found = re.search(f" ({sides}|closest|nearest) ", text)
    return (text[: found.start()], text[found.start() :]) if found else (text, "")


def _scene(*objects):
    made = [
        SceneObject(shape, colour, size, 0.1, (0, 0, 0), np.array(centres, dtype=np.float64))
        for shape, colour, size, centres in objects
    ]
    return Scene(1.0, 1.0, tuple(made), PLAIN)


def _track(x, y, dx=0.0, dy=0.0, frames=6):
    return [[x + dx * t, y + dy * t] for t in range(frames)]


SCENE = _scene(
    ("circle", "red", "small", _track(0.2, 0.2)),
    ("circle", "blue", "small", _track(0.5, 0.5, dx=0.01)),
    ("square", "red", "large", _track(0.8, 0.8, dx=-0.01)),
    ("circle", "green", "large", _track(0.45, 0.8, dx=0.01, dy=0.01)),
)
CIRCLE, ANY = NounPhrase(shape="circle"), NounPhrase()


@pytest.mark.parametrize(
    ("meaning", "expected"),
    [
        (Meaning(CIRCLE), 0b1011),
        (Meaning(NounPhrase("circle", "red")), 0b0001),
        (Meaning(NounPhrase("square", "blue")), 0b0000),
        (Meaning(CIRCLE, "extreme", "left"), 0b0001),
        (Meaning(CIRCLE, "extreme", "right"), None),  # blue and green are too close
        (Meaning(CIRCLE, "extreme", "down"), 0b1000),
        (Meaning(CIRCLE, "side", "left", NounPhrase("square", "red")), 0b1011),
        (Meaning(CIRCLE, "side", "up", NounPhrase("circle", "blue")), 0b0001),
        (Meaning(CIRCLE, "side", "left", NounPhrase("circle", "blue")), None),  # green is hardly left of it
        (Meaning(ANY, "side", "left", CIRCLE), None),  # which circle?
        (Meaning(ANY, "nearest", "", NounPhrase("circle", "red")), 0b0010),
        (Meaning(CIRCLE, "nearest", "", NounPhrase("square", "red")), None),  # green is hardly nearer
        (Meaning(CIRCLE, "motion", "still"), 0b0001),
        (Meaning(CIRCLE, "motion", "moving"), 0b1010),
        (Meaning(CIRCLE, "motion", "right"), None),  # green moves aslant
        (Meaning(NounPhrase(colour="red"), "motion", "left"), 0b0100),
        (Meaning(NounPhrase(size="small"), "motion", "right"), 0b0010),
    ],
)
def test_resolve(meaning, expected):
    assert resolve(meaning, SceneFacts(SCENE)) == expected


@pytest.mark.parametrize(
    ("meaning", "target"),
    [
        (Meaning(NounPhrase("circle", "red")), 0),
        (Meaning(NounPhrase("circle", "blue")), None),  # "circle" is not needed
        (Meaning(NounPhrase(colour="blue")), 1),
        (Meaning(NounPhrase(shape="square")), 2),
        (Meaning(NounPhrase("circle", "red", "small")), None),  # "small" is not needed
        (Meaning(NounPhrase("circle", size="large")), 3),
        (Meaning(CIRCLE), None),  # three of them
        (Meaning(CIRCLE, "motion", "still"), None),  # nothing else stands still
        (Meaning(ANY, "motion", "still"), 0),
    ],
)
def test_target_of(meaning, target):
    assert target_of(meaning, SceneFacts(SCENE)) == target


def test_a_still_has_no_motion():
    scene = _scene(
        ("circle", "red", "small", _track(0.2, 0.2, frames=1)), ("circle", "blue", "small", [[0.6, 0.6]])
    )
    assert meanings(SceneFacts(scene), "motion") == []


def test_an_anchor_is_required():
    with pytest.raises(ValueError, match="anchor"):
        resolve(Meaning(CIRCLE, "side", "left"), SceneFacts(SCENE))


def test_words_are_known():
    rng = np.random.default_rng(0)
    known = set(all_words())
    facts = SceneFacts(SCENE)
    used = set()
    for _ in range(5):
        for family in FAMILIES:
            for meaning in meanings(facts, family):
                used |= set(to_words(meaning, rng).split())
    assert used <= known
    assert {"leftmost", "nearest", "motionless", "little"} <= used
    assert not any("{" in word or not word for word in known)
