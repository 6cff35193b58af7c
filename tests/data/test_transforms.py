"""Augmentations: frames and masks change together, the arrays given never do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from refstream.data.collate import ClipSample
from refstream.data.transforms import (
    ColourJitter,
    Cut,
    HorizontalFlip,
    OccludeTarget,
    PasteDistractor,
    RandomTransform,
)
from refstream.registry import TRANSFORMS

SIZE, RED, BLUE = 64, (220, 30, 30), (30, 30, 220)
ALL: list[RandomTransform] = [
    OccludeTarget(1.0),
    Cut(1.0, ("jump", "exchange", "reverse")),
    PasteDistractor(1.0),
    ColourJitter(1.0),
    HorizontalFlip(1.0),
]


def clip(count: int = 6, expressions: tuple[str, ...] = ("the red square", "the blue square")) -> ClipSample:
    """Two squares that move to the right, over a background that tells the time."""
    frames = (
        np.zeros((count, SIZE, SIZE, 3), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    )
    masks = np.zeros((2, count, SIZE, SIZE), bool)
    for t in range(count):
        masks[0, t, 8:20, 4 + 2 * t : 16 + 2 * t] = True
        masks[1, t, 44:56, 10 + 3 * t : 22 + 3 * t] = True
        frames[t][masks[0, t]], frames[t][masks[1, t]] = RED, BLUE
    return ClipSample(frames, list(expressions), masks[: len(expressions)], "v")


def dialogue() -> ClipSample:
    frames = np.full((1, 8, 8, 3), 90, np.uint8)
    return ClipSample(frames, [], np.zeros((0, 1, 8, 8), bool), "chat", (("what?", "a car on the left"),))


def text_only() -> ClipSample:
    shape = (0, 0, 0)
    return ClipSample(
        np.zeros((*shape, 3), np.uint8), [], np.zeros((0, *shape), bool), dialogue=(("a", "b"),)
    )


def runs(transform: RandomTransform, sample: ClipSample, number: int = 30) -> list[ClipSample]:
    return [transform(sample, np.random.default_rng(seed)) for seed in range(number)]


def same(a: ClipSample, b: ClipSample) -> bool:
    return (
        np.array_equal(a.frames, b.frames)
        and np.array_equal(a.masks, b.masks)
        and a.expressions == b.expressions
    )


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
class TestAll:
    def test_given_arrays_stay_as_they_are(self, transform: RandomTransform) -> None:
        sample = clip()
        sample.frames.flags.writeable = sample.masks.flags.writeable = False
        untouched = clip()
        results = runs(transform, sample)
        assert same(sample, untouched)
        changed = sum(not same(result, untouched) for result in results)
        assert changed > 20
        for result in results:
            assert result.frames.shape == sample.frames.shape
            assert result.masks.shape == sample.masks.shape

    def test_the_generator_decides_alone(self, transform: RandomTransform) -> None:
        one, two = runs(transform, clip(), 5), runs(transform, clip(), 5)
        assert all(same(a, b) for a, b in zip(one, two, strict=True))
        assert not all(same(a, one[0]) for a in one) or isinstance(transform, HorizontalFlip)

    def test_probability_is_a_share(self, transform: RandomTransform) -> None:
        config = dict(type=type(transform).__name__, probability=0.25)
        sample = clip()
        changed = sum(r is not sample for r in runs(TRANSFORMS.build(config), sample, 400))
        never = TRANSFORMS.build(dict(config, probability=0.0))
        assert 60 <= changed <= 140 or isinstance(transform, PasteDistractor)
        assert all(result is sample for result in runs(never, sample))

    def test_odd_samples_pass(self, transform: RandomTransform) -> None:
        empty = ClipSample(clip().frames, ["nothing"], np.zeros((1, 6, SIZE, SIZE), bool))
        for sample in (clip(1), clip(2), dialogue(), text_only(), empty):
            for result in runs(transform, sample, 8):
                assert result.frames.shape == sample.frames.shape
                assert result.masks.shape == sample.masks.shape
                assert result.dialogue == sample.dialogue
        if not isinstance(transform, ColourJitter):
            assert all(r.frames is s.frames for s in [dialogue()] for r in runs(transform, s, 3))

    def test_impossible_probabilities_are_refused(self, transform: RandomTransform) -> None:
        with pytest.raises(ValueError, match="probability"):
            type(transform)(probability=1.2)


def test_occluded_pixels_leave_the_masks_and_no_others() -> None:
    sample = clip()
    for result in runs(OccludeTarget(1.0, size=(1.2, 1.5)), sample):
        hidden = sample.masks & ~result.masks
        assert not (result.masks & ~sample.masks).any()
        assert hidden.any()
        changed = (result.frames != sample.frames).any(axis=-1)
        assert not (result.masks & changed).any()  # what is still in a mask still looks as it did
        assert (hidden.any(axis=0) <= changed).mean() > 0.99
        touched = changed.any(axis=(1, 2))
        assert 1 <= touched.sum() <= 4  # at most 0.6 of 6 frames
        assert np.ptp(np.flatnonzero(touched)) == touched.sum() - 1
        gone = sample.masks.any(axis=(2, 3)) & ~result.masks.any(axis=(2, 3))
        assert gone.any()  # a patch larger than the target hides it whole at its middle


def test_the_occluder_moves() -> None:
    centres = []
    result = OccludeTarget(1.0, duration=(1.0, 1.0))(clip(8), np.random.default_rng(1))
    changed = (result.frames != clip(8).frames).any(axis=-1)
    for frame in changed[changed.any(axis=(1, 2))]:
        centres.append(np.argwhere(frame).mean(axis=0))
    assert len(centres) >= 3
    assert np.linalg.norm(centres[0] - centres[-1]) > 2


@pytest.mark.parametrize("kind", ["jump", "exchange", "reverse"])
@pytest.mark.parametrize("count", [2, 3, 6])
def test_a_cut_moves_masks_with_their_frames(kind: str, count: int) -> None:
    sample = clip(count)
    for result in runs(Cut(1.0, (kind,)), sample):
        order = result.frames[:, 0, 0, 0].astype(int)  # the background tells the time
        np.testing.assert_array_equal(result.masks, sample.masks[:, order])
        np.testing.assert_array_equal(result.frames, sample.frames[order])
        steps = np.diff(order)
        if kind == "jump":
            assert (steps >= 0).all()
            assert count == 2 or ((order[0] == 0 and (steps > 1).any()) or (steps == 0).any())
        else:
            assert sorted(order) == list(range(count))
            assert (steps < 0).any()
        assert list(order) != list(range(count))


def test_jumps_leave_frames_out() -> None:
    orders = {tuple(r.frames[:, 0, 0, 0].tolist()) for r in runs(Cut(1.0), clip(6), 200)}
    assert (0, 2, 3, 4, 5, 5) in orders
    assert (0, 1, 2, 5, 5, 5) in orders
    assert all(order[0] == 0 and order[-1] == 5 for order in orders)


def test_a_distractor_looks_like_its_model_in_another_colour() -> None:
    sample = clip(expressions=("the red square",))
    pasted = [r for r in runs(PasteDistractor(1.0), sample, 60) if r is not sample]
    assert len(pasted) > 30
    for result in pasted:
        changed = (result.frames != sample.frames).any(axis=-1)
        assert not changed[0].any()
        first = int(np.flatnonzero(changed.any(axis=(1, 2)))[0])
        assert changed[first:].any(axis=(1, 2)).all()
        colours = np.unique(result.frames[changed], axis=0)
        assert len(colours) == 1  # each model has one colour, so has its copy
        assert np.abs(colours[0].astype(int) - RED).max() > 40
        np.testing.assert_array_equal(result.masks, sample.masks & ~changed)
        area = changed[first:].sum(axis=(1, 2))
        assert (area <= 144).all()
        assert (area >= 72).all()
        share = result.masks.sum(axis=(2, 3)) / sample.masks.sum(axis=(2, 3))
        assert (share >= 0.7).all()


def test_the_distractor_moves_as_its_model_does() -> None:
    sample = clip()
    for result in runs(PasteDistractor(1.0, max_cover=0.0, min_visible=1.0), sample, 40):
        changed = (result.frames != sample.frames).any(axis=-1)
        columns = [np.argwhere(frame)[:, 1].min() for frame in changed if frame.any()]
        assert set(np.diff(columns)) <= {2} or set(np.diff(columns)) <= {3}


def test_no_distractor_where_a_target_is_absent() -> None:
    sample = clip()
    masks = sample.masks.copy()
    masks[1] = False
    absent = ClipSample(sample.frames, ["the red square", "the green square"], masks)
    assert all(result is absent for result in runs(PasteDistractor(1.0), absent))


def test_jitter_keeps_hues_and_time_together() -> None:
    sample = clip()
    for result in runs(ColourJitter(1.0), sample):
        assert result.masks is sample.masks
        reds = result.frames[sample.masks[0]]
        assert len(np.unique(reds, axis=0)) == 1
        red, green, blue = reds[0].astype(int)
        assert red > green
        assert abs(green - blue) <= 1
    same_values = ColourJitter(1.0, 0, 0, 0)(sample, np.random.default_rng(0))
    assert np.array_equal(same_values.frames, sample.frames)


@pytest.mark.parametrize(
    "text",
    [
        *("man on the left", "Rightmost cup", "bottomleft bowl", "guy rt side", "the 2nd dog", "player 23"),
        *("turning clockwise", "second zebra", "car l", "LEFT"),
    ],
)
def test_sides_are_not_mirrored(text: str) -> None:
    sample = clip(expressions=("the red square", text))
    assert all(result is sample for result in runs(HorizontalFlip(1.0), sample, 4))


@pytest.mark.parametrize("text", ["woman in front", "the blue lorry", "a long rod", "girl alert"])
def test_other_sentences_are_mirrored(text: str) -> None:
    sample = clip(expressions=("the red square", text))
    (result,) = runs(HorizontalFlip(1.0), sample, 1)
    np.testing.assert_array_equal(result.frames, sample.frames[:, :, ::-1])
    np.testing.assert_array_equal(result.masks, sample.masks[..., ::-1])
    assert result.expressions == sample.expressions


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(type="OccludeTarget", duration=(0.5, 1.5)), "duration"),
        (dict(type="OccludeTarget", size=(2, 1)), "size"),
        (dict(type="Cut", kinds=("skip",)), "kinds"),
        (dict(type="Cut", kinds=()), "kinds"),
        (dict(type="PasteDistractor", max_cover=2.0), "max_cover"),
        (dict(type="ColourJitter", contrast=-0.1), "contrast"),
    ],
)
def test_impossible_settings_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build(config)
