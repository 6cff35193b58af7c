"""J, F, A and R of ReVOS, A and R both in clean arithmetic and as published tables have them.

Source: VISA (ECCV 2024), section 4, and its ``tools/eval_revos.py``. A is the share of pixels on which truth
and result agree; R of a frame is max(0, 1 - false positives / (foreground + 1e-6)), the foreground being the
union of all that the video's expressions name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Prediction, Predictions
from refstream.evaluation.protocols.base import OVERALL, EvalProtocol, ItemScore, Summary
from refstream.evaluation.protocols.per_expression import score_frames
from refstream.evaluation.protocols.pieces import (
    LEFT_OUT,
    check_compat,
    check_frames,
    counted,
    missing_frames,
    original,
    read_masks,
    read_whole,
)

REFERRING, REASONING, OTHER = "referring", "reasoning", "other"
GROUPS = (REFERRING, REASONING, OTHER)
EPSILON = 1e-6
COMPAT = {
    "visa": "script over PNG 0/255 (VISA): an expression that cannot be read whole scores 0 in everything; A "
    "and R are A_visa255 and R_visa255",
    "visa-0-1": "the same script over PNG 0/1: A and R in 8 bits, result 0/1",
    "sa2va": "scripts over RLE files (Sa2VA): what cannot be read whole is left out of the means; A and R in "
    "8 bits, result 0/1",
}
METRICS = ("J", "F", "A", "R", "A_visa255", "R_visa255")
SET = {None: 1, "visa": 255, "visa-0-1": 1, "sa2va": 1}  # value of a set pixel of the result in A and R


@runtime_checkable
class Instances(Protocol):
    """What a benchmark must have for this protocol."""

    def instance_sum(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray:
        """(K, H, W) uint8: how many of the target's instances cover each pixel."""
        ...

    def foreground(self, video: EvalVideo) -> np.ndarray:
        """(K, H, W) bool: the union of the instances that any expression of the video names."""
        ...


class ReVOS(EvalProtocol):
    """Means over frames, in percent rounded to 2 decimals, then over the expressions of a type.

    The row "overall" is the unweighted mean of "referring" and "reasoning", not the mean over expressions.
    Expressions of neither type are scored and have a row of their own, "other", that enters nothing. J&F is
    the mean of J and F.

    A and R are 0/1 arithmetic. ``A_visa255`` and ``R_visa255`` are the figures of published tables: there,
    results are 0 or 255 and everything is 8-bit, so that a false positive costs 255 pixels, a true positive
    never equals its truth (255 against 1), and where n > 1 instances of the target overlap, 1 - n wraps
    around to a penalty.

    What is missing counts: a missing video, expression or frame scores 0 in every metric. Values of an item
    are in [0, 1] and not rounded. A mean of nothing is left out, and with it what is made of it.

    Args:
        compat: Treat missing pieces, A and R as public scripts do; a key of ``COMPAT``. Items without a score
            then have the reason in ``details["left_out"]``.

    Raises:
        UserError: If there is no such compatibility mode.
    """

    name = "revos"
    headline = "J&F"

    def __init__(self, compat: str | None = None) -> None:
        self.compat = check_compat(self.name, compat, COMPAT)

    def score_video(
        self, benchmark: MaskBenchmark, video: EvalVideo, predictions: Predictions
    ) -> list[ItemScore]:
        source = original(benchmark)
        if not isinstance(source, Instances):
            raise UserError(
                f"protocol {self.name} needs the instances of each target and the foreground of each video; "
                f"benchmark {benchmark.name} does not know them, choose per-expression"
            )
        foreground = source.foreground(video)
        check_frames(video, foreground, "the foreground")
        items = []
        for expression in video.expressions:
            if expression.group not in GROUPS:
                raise UserError(
                    f"video {video.id}, expression {expression.id}: protocol {self.name} knows the types "
                    f"{', '.join(GROUPS)}, got {expression.group!r}"
                )
            instances = source.instance_sum(video, expression)
            check_frames(video, instances, f"the instances of expression {expression.id}")
            items.append(self._score(video, expression, instances, foreground, predictions))
        return items

    def summarize(self, benchmark: MaskBenchmark, items: Sequence[ItemScore]) -> Summary:
        groups = {group: [item for item in counted(items) if item.group == group] for group in GROUPS}
        rows = {group: _row(members) for group, members in groups.items() if members}
        overall: dict[str, float] = {}
        if REFERRING in rows and REASONING in rows:
            both = rows[REFERRING], rows[REASONING]
            overall = {name: (both[0][name] + both[1][name]) / 2 for name in ("J&F", *METRICS)}
        overall["expressions"] = float(len(groups[REFERRING]) + len(groups[REASONING]))
        return {OVERALL: overall, **rows}

    def _score(
        self,
        video: EvalVideo,
        expression: EvalExpression,
        instances: np.ndarray,
        foreground: np.ndarray,
        predictions: Predictions,
    ) -> ItemScore:
        size = (instances.shape[1], instances.shape[2])
        details: dict[str, object] = {}
        prediction: Prediction | None
        if self.compat is None:
            prediction = read_masks(predictions, video, expression, size)
        else:
            found = read_whole(predictions, video, expression, size)
            prediction = found if isinstance(found, Prediction) else None
            if not isinstance(found, Prediction):
                details[LEFT_OUT if self.compat == "sa2va" else "zero"] = found
        frames = self._frames(instances, foreground, prediction)
        values = {metric: float(frames[metric].mean()) for metric in METRICS}
        return ItemScore(
            video=video.id,
            id=expression.id,
            text=expression.text,
            group=expression.group,
            values={"J&F": (values["J"] + values["F"]) / 2, **values},
            frames={metric: frames[metric].tolist() for metric in METRICS},
            missing=missing_frames(video, prediction),
            details=details,
        )

    def _frames(
        self, instances: np.ndarray, foreground: np.ndarray, prediction: Prediction | None
    ) -> dict[str, np.ndarray]:
        """Metric -> (K,) float64."""
        if prediction is None:
            return {metric: np.zeros(len(instances)) for metric in METRICS}
        target = instances != 0
        j, f = score_frames(target, prediction)
        visa = accuracy_and_robustness_8bit(instances, prediction.masks, foreground, 255)
        if self.compat is None:
            plain = accuracy_and_robustness(target, prediction.masks, foreground)
        elif SET[self.compat] == 255:
            plain = visa[0].copy(), visa[1].copy()
        else:
            plain = accuracy_and_robustness_8bit(instances, prediction.masks, foreground, 1)
        frames = dict(zip(METRICS, (j, f, *plain, *visa), strict=True))
        for values in frames.values():
            values[list(prediction.missing)] = 0.0
        return frames


def accuracy_and_robustness(
    target: np.ndarray, result: np.ndarray, foreground: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A and R of each frame, each (K,) float64 in [0, 1].

    Args:
        target: (K, H, W) bool.
        result: (K, H, W) bool.
        foreground: (K, H, W) bool.
    """
    agreeing = [np.mean(t == r) for t, r in zip(target, result, strict=True)]
    false = np.array([np.count_nonzero(r & ~t) for t, r in zip(target, result, strict=True)])
    return np.array(agreeing), _robustness(false, foreground)


def accuracy_and_robustness_8bit(
    instances: np.ndarray, result: np.ndarray, foreground: np.ndarray, value: int
) -> tuple[np.ndarray, np.ndarray]:
    """A and R of each frame as public scripts reckon them, all in uint8 with its wraps; each (K,) float64.

    Args:
        instances: (K, H, W) uint8, instances of the target on each pixel.
        result: (K, H, W) bool.
        foreground: (K, H, W) bool.
        value: What a set pixel of the result was stored as: 1 or 255.
    """
    agreeing, false = [], []
    for target, mask in zip(instances, result, strict=True):
        stored = mask * np.uint8(value)
        agreeing.append(np.mean(target == stored))
        false.append(((np.uint8(1) - target) * stored).sum(dtype=np.int64))
    return np.array(agreeing), _robustness(np.array(false), foreground)


def _robustness(false: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    positive = np.count_nonzero(foreground, axis=(1, 2))
    return np.asarray(np.maximum(0.0, 1.0 - false / (positive + EPSILON)))


def _row(items: Sequence[ItemScore]) -> dict[str, float]:
    """Means in percent of what was rounded to 2 decimals."""
    row = {m: float(np.mean([np.round(100 * i.values[m], 2) for i in items])) for m in METRICS}
    return {"J&F": (row["J"] + row["F"]) / 2, **row, "expressions": float(len(items))}
