"""Floors and a ceiling: what a score is worth.

A model that does not beat ``shuffled`` by a wide margin has not learned to refer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from refstream.evaluation.benchmark import Altered, EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Prediction, Predictions
from refstream.models.masks import upsample_mask
from refstream.models.protocols import Segmenter
from refstream.structures import SegPrompt

NEUTRAL_EXPRESSION = "the object"  # stands for no expression at all, which a session refuses
NEUTRAL_ID = "neutral"
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
    alone = (EvalExpression(NEUTRAL_ID, NEUTRAL_EXPRESSION),)
    return Altered(benchmark, [replace(video, expressions=alone) for video in benchmark.videos])


def mismatched(benchmark: MaskBenchmark) -> tuple[Altered, dict[tuple[str, str], str]]:
    """What to ask in place of each expression, so that another thing is meant.

    An expression is exchanged for a random one of the same video with another target; where there is none,
    for a random one of another video, which has to be run.

    Returns:
        The videos to run with words of others, and (video, expression) -> expression whose masks to take.
    """
    rng = np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([benchmark.seed, len(benchmark.videos)]))
    )
    taken: dict[tuple[str, str], str] = {}
    to_run = []
    for number, video in enumerate(benchmark.videos):
        strangers = []
        for expression in video.expressions:
            others = [e.id for e in video.expressions if _target(benchmark, video, e, expression)]
            if others:
                taken[video.id, expression.id] = others[int(rng.integers(len(others)))]
            elif len(benchmark.videos) > 1:
                other = (number + 1 + int(rng.integers(len(benchmark.videos) - 1))) % len(benchmark.videos)
                words = benchmark.videos[other].expressions
                text = words[int(rng.integers(len(words)))].text
                strangers.append(EvalExpression(f"stranger {expression.id}", text))
                taken[video.id, expression.id] = strangers[-1].id
        if strangers:
            to_run.append(replace(video, expressions=tuple(strangers)))
    return Altered(benchmark, to_run), taken


def _target(benchmark: MaskBenchmark, video: EvalVideo, one: EvalExpression, other: EvalExpression) -> bool:
    """Whether two expressions of a video mean different things."""
    if "target" in one.details:
        return bool(one.details["target"] != other.details["target"])
    first, second = benchmark.truth(video, one), benchmark.truth(video, other)
    return first is not None and second is not None and not np.array_equal(first, second)


class Exchanged:
    """Predictions of other expressions.

    Args:
        predictions: Where to look, in turn.
        taken: (video, expression) -> id of the expression whose masks to take; None: the same for all.
        always: That id.
    """

    def __init__(
        self,
        predictions: list[Predictions],
        taken: dict[tuple[str, str], str] | None = None,
        always: str = "",
    ) -> None:
        self._sources, self._taken, self._always = predictions, taken, always

    @property
    def fingerprint(self) -> str:
        """See ``Predictions``."""
        return " ".join(source.fingerprint for source in self._sources)

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        """See ``Predictions.read``."""
        name = self._always if self._taken is None else self._taken.get((video.id, expression.id), "")
        other = replace(expression, id=name)
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
            objects = self._benchmark.objects(video)
            if objects is None:
                return None
            self._last = video.id, objects[int(np.argmax(objects.sum(axis=(1, 2, 3))))]
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
        self._last: tuple[str, dict[str, np.ndarray]] | None = None

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        """See ``Predictions.read``."""
        if self._last is None or self._last[0] != video.id:
            known = {
                e.id: mask for e in video.expressions if (mask := self._benchmark.truth(video, e)) is not None
            }
            self._last = video.id, self._segment(video, known)
        masks = self._last[1].get(expression.id)
        return None if masks is None else Prediction(masks)

    def _segment(self, video: EvalVideo, truths: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        row_in = {frame: k for k, frame in enumerate(video.scored or range(len(video.frames)))}
        masks = {name: np.zeros_like(truth) for name, truth in truths.items()}
        for index, image in enumerate(self._benchmark.images(video)):
            k = row_in.get(index)
            visible = [] if k is None else [name for name, truth in truths.items() if truth[k].any()]
            if k is not None and visible:
                boxes = [_box(truths[name][k]) for name in visible]
                for name, mask in zip(visible, box_masks(self._segmenter, image, boxes), strict=True):
                    masks[name][k] = mask
        return masks


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
