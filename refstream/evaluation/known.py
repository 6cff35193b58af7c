"""Predictions made from the truth, each spoilt in one known way, so that what a protocol must say is known.

For a look at a protocol or at one's own data before a model is at hand: ``tools/eval_known.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import cv2
import numpy as np

from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Prediction

Spoil = Callable[[np.ndarray], np.ndarray]
"""(K, H, W) bool -> the same shape."""


def shifted(pixels: int) -> Spoil:
    """Moves masks to the right; what leaves the picture is lost."""

    def spoil(masks: np.ndarray) -> np.ndarray:
        moved = np.zeros_like(masks)
        if pixels < masks.shape[2]:
            moved[:, :, pixels:] = masks[:, :, : masks.shape[2] - pixels]
        return moved

    return spoil


def eroded(pixels: int) -> Spoil:
    """Takes a rim off masks: pixels within ``pixels`` (square neighbourhood) of the outside."""
    kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), dtype=np.uint8)

    def spoil(masks: np.ndarray) -> np.ndarray:
        thin = [cv2.erode(mask.astype(np.uint8), kernel, borderValue=1) for mask in masks]
        return np.stack(thin).astype(bool)

    return spoil


def delayed(frames: int) -> Spoil:
    """Answers each frame with the mask of an earlier one; the first frame's stands for those before it."""

    def spoil(masks: np.ndarray) -> np.ndarray:
        return masks[np.maximum(np.arange(len(masks)) - frames, 0)]

    return spoil


class KnownPredictions:
    """The truth, spoilt.

    Args:
        benchmark: With public truth.
        spoil: Changes the masks; None leaves them.
        instead: (video, expression) -> expression of the same video whose masks to give.
        absent: (video, expression) of which there is nothing.
    """

    def __init__(
        self,
        benchmark: MaskBenchmark,
        spoil: Spoil | None = None,
        instead: Mapping[tuple[str, str], str] | None = None,
        absent: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        self._benchmark, self._spoil = benchmark, spoil
        self._instead, self._absent = instead or {}, absent

    fingerprint = "made from the truth"

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        """See ``Predictions.read``."""
        name = (video.id, expression.id)
        if name in self._absent:
            return None
        other = self._instead.get(name, expression.id)
        asked = next((e for e in video.expressions if e.id == other), replace(expression, id=other))
        masks = self._benchmark.truth(video, asked)
        if masks is None:
            return None
        return Prediction(masks if self._spoil is None else self._spoil(masks))


def swapped(benchmark: MaskBenchmark, key: str = "object") -> dict[tuple[str, str], str]:
    """For each expression one that means the video's next object and is the same otherwise.

    Args:
        benchmark: Whose expressions say their object in ``details[key]``.
        key: Of ``details``.
    """
    exchanged = {}
    for video in benchmark.videos:
        numbers = sorted({e.details[key] for e in video.expressions})
        following = dict(zip(numbers, numbers[1:] + numbers[:1], strict=True))
        place = {(e.details[key], e.group): e.id for e in video.expressions}
        for e in video.expressions:
            exchanged[video.id, e.id] = place.get((following[e.details[key]], e.group), e.id)
    return exchanged
