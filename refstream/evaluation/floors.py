"""Floors and a ceiling: what a score is worth.

A model that does not beat ``shuffled`` by a wide margin has not learned to refer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np
import torch

from refstream.data.rle import RLE, decode, decode_clip, encode, encode_clip
from refstream.evaluation.benchmark import Altered, EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Prediction, Predictions
from refstream.evaluation.run import NO_WORDS
from refstream.models.masks import upsample_mask
from refstream.models.protocols import Segmenter
from refstream.structures import SegPrompt

NEUTRAL = EvalExpression("neutral", NO_WORDS)
"""Asked in place of every expression."""
BLANK_VALUE = 128
CEILING = "oracle box"


class Blank(Altered):
    """The benchmark with constant grey frames."""

    def __init__(self, base: MaskBenchmark) -> None:
        super().__init__(base, base.videos)

    def images(self, video: EvalVideo) -> Iterator[np.ndarray]:
        for image in self.base.images(video):
            yield np.full_like(image, BLANK_VALUE)


def neutral(benchmark: MaskBenchmark) -> Altered:
    """The benchmark with one expression per video, which says nothing."""
    return Altered(benchmark, [replace(video, expressions=(NEUTRAL,)) for video in benchmark.videos])


def mismatched(benchmark: MaskBenchmark) -> tuple[Altered, dict[tuple[str, str], EvalExpression]]:
    """What to ask in place of each expression, so that another thing is meant.

    An expression is exchanged for a random one of the same video with another target; where there is none,
    for a random one of another video, with other words if it has any, which has to be run. In a benchmark of
    one video there may be neither.

    Returns:
        The videos to run with words of others, and (video, expression) -> expression whose masks to take.
    """
    rng = np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([benchmark.seed, len(benchmark.videos)]))
    )
    taken: dict[tuple[str, str], EvalExpression] = {}
    to_run = []
    asked = [video for video in benchmark.videos if video.expressions]
    for number, video in enumerate(asked):
        strangers = []
        targets = _targets(benchmark, video)
        for expression, target in zip(video.expressions, targets, strict=True):
            others = [e for e, t in zip(video.expressions, targets, strict=True) if _differ(t, target)]
            if others:
                taken[video.id, expression.id] = others[int(rng.integers(len(others)))]
            elif len(asked) > 1:
                other = (number + 1 + int(rng.integers(len(asked) - 1))) % len(asked)
                words = asked[other].expressions
                words = tuple(e for e in words if e.text != expression.text) or words
                text = words[int(rng.integers(len(words)))].text
                strangers.append(EvalExpression(f"stranger {expression.id}", text))
                taken[video.id, expression.id] = strangers[-1]
        if strangers:
            to_run.append(replace(video, expressions=tuple(strangers)))
    return Altered(benchmark, to_run), taken


def _targets(benchmark: MaskBenchmark, video: EvalVideo) -> list[object]:
    """Something that is equal for expressions of the same target; None where the target is not known."""
    if all("target" in expression.details for expression in video.expressions):
        return [expression.details["target"] for expression in video.expressions]
    if len(video.expressions) == 1:
        return [None]
    truths = (benchmark.truth(video, expression) for expression in video.expressions)
    return [None if truth is None else sha256(np.packbits(truth).tobytes()).digest() for truth in truths]


def _differ(one: object, other: object) -> bool:
    return one is not None and other is not None and one != other


class Exchanged:
    """Predictions of other expressions.

    Args:
        predictions: Where to look, in turn.
        taken: (video, expression) -> expression whose masks to take; or one that stands for all.
    """

    def __init__(
        self,
        predictions: Sequence[Predictions],
        taken: Mapping[tuple[str, str], EvalExpression] | EvalExpression,
    ) -> None:
        self._sources, self._taken = predictions, taken

    @property
    def fingerprint(self) -> str:
        """See ``Predictions``."""
        return " ".join(source.fingerprint for source in self._sources)

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        """See ``Predictions.read``."""
        taken = self._taken
        other = taken if isinstance(taken, EvalExpression) else taken[video.id, expression.id]
        found = (source.read(video, other, size) for source in self._sources)
        return next((one for one in found if one is not None), None)


class Largest:
    """The true mask of the video's largest object, whatever is asked; no model."""

    fingerprint = "largest"

    def __init__(self, benchmark: MaskBenchmark) -> None:
        self._benchmark = benchmark
        self._last: tuple[str, np.ndarray] | None = None

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        """See ``Predictions.read``."""
        if self._last is None or self._last[0] != video.id:
            largest: np.ndarray | None = None
            for masks in self._benchmark.objects(video):
                if largest is None or np.count_nonzero(masks) > np.count_nonzero(largest):
                    largest = masks
            if largest is None:
                return None
            self._last = video.id, largest
        return Prediction(self._last[1])


class OracleBoxes:
    """The segmenter's masks when each frame's true box is its prompt: what perfect referring could reach.

    Where a target is hidden, the answer is an empty mask.

    Args:
        benchmark: With public truth.
        segmenter: The model's own.
    """

    fingerprint = "oracle box"

    def __init__(self, benchmark: MaskBenchmark, segmenter: Segmenter) -> None:
        self._benchmark, self._segmenter = benchmark, segmenter
        self._last: tuple[str, dict[str, list[RLE | None]]] | None = None  # one video's masks, as codes

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        """See ``Predictions.read``."""
        if self._last is None or self._last[0] != video.id:
            known = {
                e.id: encode_clip(mask)
                for e in video.expressions
                if (mask := self._benchmark.truth(video, e)) is not None
            }
            self._last = video.id, self._segment(video, known)
        codes = self._last[1].get(expression.id)
        return None if codes is None else Prediction(decode_clip(codes, size))

    def _segment(self, video: EvalVideo, truths: dict[str, list[RLE]]) -> dict[str, list[RLE | None]]:
        row_in = {frame: k for k, frame in enumerate(video.scored_positions)}
        codes: dict[str, list[RLE | None]] = {name: [None] * len(row_in) for name in truths}
        for index, image in enumerate(self._benchmark.images(video)):
            k = row_in.get(index)
            if k is None:
                continue
            masks = {name: decode(truth[k]) for name, truth in truths.items()}
            boxes = {name: _box(mask) for name, mask in masks.items() if mask.any()}
            if boxes:
                found = box_masks(self._segmenter, image, list(boxes.values()))
                for name, mask in zip(boxes, found, strict=True):
                    codes[name][k] = encode(mask)
        return codes


def box_masks(
    segmenter: Segmenter, image: np.ndarray, boxes: list[tuple[float, float, float, float]]
) -> list[np.ndarray]:
    """(H, W) bool masks of boxes x0, y0, x1, y1 in pixels of a (H, W, 3) uint8 RGB picture."""
    height, width = image.shape[:2]
    scale = torch.tensor([segmenter.image_size / width, segmenter.image_size / height] * 2)
    with torch.inference_mode():
        pixels = segmenter.preprocess([image])
        prompt = SegPrompt(box_xyxy=(torch.tensor(boxes) * scale).float().to(pixels.device))
        logits = segmenter.decode(segmenter.encode(pixels), prompt).mask_logits
    return [np.asarray(upsample_mask(one[None], (height, width))) for one in logits]


def _box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a (H, W) bool mask's pixels, the last ones exclusive."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(cols[0]), float(rows[0]), float(cols[-1] + 1), float(rows[-1] + 1)
