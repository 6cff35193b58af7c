"""Augmentations of clips: what stage 2's "semantic ambiguity and temporal discontinuity" may look like.

StreamingRVOS (CVPR 2026) names these two difficulties of its second stage without saying how, or how often,
they are made; so every probability and every range here is `assumed`. Each transform is called with a sample
and a generator and returns a sample; the arrays that it gets are never written to, and arrays that it does
not change are handed on. A sample without an expression on a frame (a dialogue) passes through all but
``ColourJitter``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from refstream.data.collate import ClipSample
from refstream.registry import TRANSFORMS

Range = tuple[float, float]


class RandomTransform:
    """A transform that is applied to a share of the samples.

    Args:
        probability: In [0, 1].
    """

    def __init__(self, probability: float) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be in [0, 1], got {probability}")
        self.probability = probability

    def __call__(self, sample: ClipSample, rng: np.random.Generator) -> ClipSample:
        if rng.random() >= self.probability or not self.applies(sample):
            return sample
        return self.apply(sample, rng)

    def applies(self, sample: ClipSample) -> bool:
        """Whether the sample can be changed at all."""
        return bool(sample.expressions) and not sample.dialogue and len(sample.frames) > 0

    def apply(self, sample: ClipSample, rng: np.random.Generator) -> ClipSample:
        """The changed sample; the sample itself if chance finds nothing to change."""
        raise NotImplementedError


@TRANSFORMS.register_module()
class OccludeTarget(RandomTransform):
    """A patch moves over part of the frames and hides a target; all masks lose the hidden pixels.

    The patch, of one colour with noise, crosses the target of one expression, and is on it in the middle of
    its time; a target that it hides comes back when it has passed, unless the clip ends before.

    Args:
        probability: Share of the samples.
        duration: Range of the share of frames with the patch; at least one frame has it.
        size: Range of the sides of the patch, relative to those of the target's box.
        travel: Largest way of the patch to either side of the target, in sides of the patch.
    """

    def __init__(
        self,
        probability: float = 0.3,
        duration: Range = (0.2, 0.6),
        size: Range = (0.7, 1.4),
        travel: float = 1.0,
    ) -> None:
        super().__init__(probability)
        self.duration = _range("duration", duration, 0, 1)
        self.size = _range("size", size, 0, 10)
        self.travel = travel

    def apply(self, sample: ClipSample, rng: np.random.Generator) -> ClipSample:
        target = _pick_target(sample.masks, rng)
        if target is None:
            return sample
        count, height, width = target.shape
        middle = int(rng.choice(np.flatnonzero(target.any(axis=(1, 2)))))
        length = max(1, round(rng.uniform(*self.duration) * count))
        start = min(max(0, middle - length // 2), count - length)
        top, left, bottom, right = _box(target[middle])
        sides = np.maximum(1, rng.uniform(*self.size, 2) * (bottom - top, right - left))
        way = rng.uniform(-self.travel, self.travel, 2) * sides
        frames, masks = sample.frames.copy(), sample.masks.copy()
        colour = rng.uniform(0, 255, 3)
        for t in range(start, start + length):
            centre = np.array([top + bottom, left + right]) / 2 + way * 2 * (t - middle) / length
            y0, x0 = np.clip(np.round(centre - sides / 2), 0, (height, width)).astype(int)
            y1, x1 = np.clip(np.round(centre + sides / 2), 0, (height, width)).astype(int)
            noise = rng.normal(0, 12, (y1 - y0, x1 - x0, 3))
            frames[t, y0:y1, x0:x1] = np.clip(colour + noise, 0, 255)
            masks[:, t, y0:y1, x0:x1] = False
        return replace(sample, frames=frames, masks=masks, id=f"{sample.id}+occluded")


@TRANSFORMS.register_module()
class Cut(RandomTransform):
    """The clip is cut: time jumps, two parts change places, or a part runs backwards; masks follow.

    A jump leaves frames out and holds the last one for as long, so time still runs forwards. An exchange or a
    reversal makes sentences about what came first, or about a direction of motion, untrue; choose these kinds
    for data whose sentences speak of looks.

    Args:
        probability: Share of the samples; a clip of one frame cannot be cut.
        kinds: Any of "jump", "exchange", "reverse"; one is drawn for each sample.
    """

    def __init__(self, probability: float = 0.3, kinds: Sequence[str] = ("jump",)) -> None:
        super().__init__(probability)
        unknown = sorted(set(kinds) - {"jump", "exchange", "reverse"})
        if unknown or not kinds:
            raise ValueError(f"kinds must be some of jump, exchange and reverse, got {list(kinds)}")
        self.kinds = tuple(kinds)

    def applies(self, sample: ClipSample) -> bool:
        return super().applies(sample) and len(sample.frames) > 1

    def apply(self, sample: ClipSample, rng: np.random.Generator) -> ClipSample:
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        order = self._order(kind, len(sample.frames), rng)
        return replace(
            sample, frames=sample.frames[order], masks=sample.masks[:, order], id=f"{sample.id}+{kind}"
        )

    @staticmethod
    def _order(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
        """Which frame stands at each place; never the order it was."""
        order = np.arange(count)
        at = int(rng.integers(1, count))
        if kind == "exchange":
            return np.roll(order, at)
        if kind == "reverse":
            start = int(rng.integers(0, at))
            order[start : at + 1] = order[start : at + 1][::-1]
            return order
        at = int(rng.integers(1, max(2, count - 1)))
        skipped = int(rng.integers(1, max(2, count - at)))
        order[at:] = np.minimum(order[at:] + skipped, count - 1)
        return order if count > 2 else np.zeros(2, int)


@TRANSFORMS.register_module()
class PasteDistractor(RandomTransform):
    """A copy of a target in another colour comes into the clip and moves as its model does, elsewhere.

    To the expression of its model it is a look-alike, to the others a further object, whose colour may by
    chance be theirs; it hides what it covers, and the masks follow. It comes after the first frame, so that
    the target is known before it is doubtful. Clips of one frame, and samples with an expression whose target
    never shows, stay as they are: the copy might become that target.

    Args:
        probability: Share of the samples.
        max_cover: Largest share of any target, on any frame, that the copy may hide.
        min_visible: Smallest share of the copy that must lie within the frame on each of its frames.
        tries: Places to try; without one that fits the sample stays as it is.
    """

    def __init__(
        self,
        probability: float = 0.3,
        max_cover: float = 0.3,
        min_visible: float = 0.5,
        tries: int = 10,
    ) -> None:
        super().__init__(probability)
        _range("max_cover, min_visible", (0, max_cover), 0, 1)
        _range("max_cover, min_visible", (0, min_visible), 0, 1)
        self.max_cover, self.min_visible, self.tries = max_cover, min_visible, tries

    def applies(self, sample: ClipSample) -> bool:
        shown = sample.masks.any(axis=(1, 2, 3))
        return super().applies(sample) and len(sample.frames) > 1 and bool(shown.all())

    def apply(self, sample: ClipSample, rng: np.random.Generator) -> ClipSample:
        model = sample.masks[int(rng.integers(len(sample.masks)))].copy()
        model[: int(rng.integers(1, len(model)))] = False
        if not model.any():
            return sample
        colours = _other_colours(rng)
        height, width = model.shape[1:]
        for _ in range(self.tries):
            shift = int(rng.integers(-height, height)), int(rng.integers(-width, width))
            copy = _shifted(model, shift)
            if not self._fits(model, copy, sample.masks):
                continue
            frames, masks = sample.frames.copy(), sample.masks & ~copy
            painted = _mixed(_shifted(sample.frames, shift)[copy], colours)
            frames[copy] = painted
            return replace(sample, frames=frames, masks=masks, id=f"{sample.id}+distractor")
        return sample

    def _fits(self, model: np.ndarray, copy: np.ndarray, masks: np.ndarray) -> bool:
        whole, visible = model.sum(axis=(1, 2)), copy.sum(axis=(1, 2))
        if (visible < self.min_visible * whole).any():
            return False
        hidden, size = (masks & copy).sum(axis=(2, 3)), masks.sum(axis=(2, 3))
        return bool((hidden <= self.max_cover * size).all())


@TRANSFORMS.register_module()
class ColourJitter(RandomTransform):
    """Brightness, contrast and saturation of the whole clip change; hues stay, as sentences name colours.

    Args:
        probability: Share of the samples.
        brightness: Largest change, as a share of the values.
        contrast: Largest change, as a share of the distance to mid-grey.
        saturation: Largest change, as a share of the distance to the pixel's grey.
    """

    def __init__(
        self,
        probability: float = 0.5,
        brightness: float = 0.2,
        contrast: float = 0.2,
        saturation: float = 0.2,
    ) -> None:
        super().__init__(probability)
        for name, value in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
            _range(name, (0, value), 0, 1)
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation

    def applies(self, sample: ClipSample) -> bool:
        return len(sample.frames) > 0

    def apply(self, sample: ClipSample, rng: np.random.Generator) -> ClipSample:
        brightness, contrast, saturation = (
            1 + rng.uniform(-limit, limit) for limit in (self.brightness, self.contrast, self.saturation)
        )
        grey = np.full((3, 3), 1 / 3)
        mixing = brightness * contrast * (grey + saturation * (np.eye(3) - grey))
        return replace(sample, frames=_mixed(sample.frames, mixing, offset=127.5 * (1 - contrast)))


# Sides, and what implies them: ordinals count from the left, and digits cannot be read in a mirror.
SIDES = re.compile(
    r"left|right|clockwise|\d|\b(lft|lt|rgt|rt|lhs|rhs|l|r|east|west)\b"
    r"|\b(first|second|third|fourth|fifth|sixth|last|number)\b",
    re.IGNORECASE,
)


@TRANSFORMS.register_module()
class HorizontalFlip(RandomTransform):
    """Frames and masks are mirrored; a sample that speaks of left or right is not.

    Words are not exchanged, since "right" is not always a side ("right behind him"): a sample with "left" or
    "right" anywhere in any expression, or with a word that implies a side (``SIDES``), stays as it is.

    Args:
        probability: Share of the samples that may be mirrored.
    """

    def __init__(self, probability: float = 0.5) -> None:
        super().__init__(probability)

    def applies(self, sample: ClipSample) -> bool:
        return super().applies(sample) and not any(SIDES.search(text) for text in sample.expressions)

    def apply(self, sample: ClipSample, rng: np.random.Generator) -> ClipSample:
        return replace(
            sample,
            frames=np.ascontiguousarray(sample.frames[:, :, ::-1]),
            masks=np.ascontiguousarray(sample.masks[..., ::-1]),
            id=f"{sample.id}+mirrored",
        )


def _range(name: str, values: Sequence[float], low: float, high: float) -> Range:
    """Two numbers in order, within limits."""
    if len(values) != 2 or not low <= values[0] <= values[1] <= high:
        raise ValueError(f"{name} must be two numbers in order within [{low}, {high}], got {list(values)}")
    return values[0], values[1]


def _pick_target(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """One of the (E, T, H, W) masks that is not empty, or None."""
    shown = np.flatnonzero(masks.any(axis=(1, 2, 3)))
    return masks[int(rng.choice(shown))] if len(shown) else None


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of a non-empty (H, W) mask, the last two exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _shifted(values: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """(T, H, W, ...) moved by (dy, dx) pixels; zeros come in at the borders."""
    result = np.zeros_like(values)
    here, there = [], []
    for step, size in zip(shift, values.shape[1:3], strict=True):
        here.append(slice(max(step, 0), size + min(step, 0)))
        there.append(slice(max(-step, 0), size + min(-step, 0)))
    result[:, here[0], here[1]] = values[:, there[0], there[1]]
    return result


def _other_colours(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) channel mixing: the hue turns by 60 to 300 degrees, and greys take on a tint."""
    angle = rng.uniform(np.pi / 3, 5 * np.pi / 3)
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.cross(np.eye(3), axis)
    turn = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * np.outer(axis, axis)
    return np.asarray(rng.permutation([0.5, 0.9, 1.3])[:, None] * turn)


def _mixed(colours: np.ndarray, mixing: np.ndarray, offset: float = 0.0) -> np.ndarray:
    """(..., 3) uint8 colours through a (3, 3) matrix, rounded and clipped."""
    values = colours.astype(np.float32) @ mixing.T.astype(np.float32) + np.float32(offset)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
