"""J&F of every expression alone: MeViS, Ref-YouTube-VOS, and Ref-DAVIS17 as MLLM papers report it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.metrics.jf import frame_scores
from refstream.evaluation.predictions.base import Prediction, Predictions
from refstream.evaluation.protocols.base import OVERALL, EvalProtocol, ItemScore, Summary
from refstream.evaluation.protocols.pieces import (
    ABSENT,
    LEFT_OUT,
    check_compat,
    counted,
    missing_frames,
    read_masks,
    read_whole,
    true_masks,
)

COMPAT = {
    "mevis": "scripts over PNG folders (MeViS, VISA): an expression without all its frames, or of another "
    "size, is left out of the mean; those of a video without any prediction score 0",
    "sa2va": "scripts over RLE files (Sa2VA): whatever is missing or of another size is left out of the mean",
}


class PerExpression(EvalProtocol):
    """Mean J and mean F over the scored frames of each expression, then over expressions.

    Binary masks, all scored frames, no void pixels. What is missing counts: a missing video or expression
    scores J = F = 0, a missing frame 0 for that frame. It is not taken for an empty mask, because an empty
    mask scores 1 where the target is absent. Source: ``tools/eval_mevis.py`` of MeViS (ICCV 2023), used for
    Ref-DAVIS17 by the MLLM line (VISA, ECCV 2024, and followers).

    Where expressions have groups (Ref-DAVIS17: annotators), each has a row. Where there are expressions
    without target (no pixel in any scored frame; MeViS v2), two more figures are given: N-acc, the share of
    them for which every frame is there and empty, and T-acc, the share of the others with at least one
    non-empty frame. No public evaluator of MeViS v2 could be found to confirm these two: assumed.

    Values of an item are in [0, 1], the summary in percent ("expressions": how many are in the mean). A
    mean of nothing is left out.

    Args:
        compat: Treat missing pieces as public scripts do; a key of ``COMPAT``. Items without a score then
            have the reason in ``details["left_out"]``.

    Raises:
        UserError: If there is no such compatibility mode.
    """

    name = "per-expression"
    headline = "J&F"

    def __init__(self, compat: str | None = None) -> None:
        self.compat = check_compat(self.name, compat, COMPAT)

    def score_video(
        self, benchmark: MaskBenchmark, video: EvalVideo, predictions: Predictions
    ) -> list[ItemScore]:
        items = [self._score(benchmark, video, e, predictions) for e in video.expressions]
        if self.compat == "mevis" and all(item.details.get(LEFT_OUT) == ABSENT for item in items):
            return [replace(i, details={k: v for k, v in i.details.items() if k != LEFT_OUT}) for i in items]
        return items

    def summarize(self, benchmark: MaskBenchmark, items: Sequence[ItemScore]) -> Summary:
        members = counted(items)
        groups = dict.fromkeys(item.group for item in members if item.group)
        rows = {group: _row([item for item in members if item.group == group]) for group in groups}
        return {OVERALL: _row(members), **rows}

    def _score(
        self, benchmark: MaskBenchmark, video: EvalVideo, expression: EvalExpression, predictions: Predictions
    ) -> ItemScore:
        truth = true_masks(benchmark, video, expression)
        size = (truth.shape[1], truth.shape[2])
        details: dict[str, object] = {"no_target": not truth.any()}
        prediction: Prediction | None
        if self.compat is None:
            prediction = read_masks(predictions, video, expression, size)
        else:
            found = read_whole(predictions, video, expression, size)
            prediction = found if isinstance(found, Prediction) else None
            if not isinstance(found, Prediction):
                details[LEFT_OUT] = found
        j, f = score_frames(truth, prediction)
        details["said_empty"] = (
            prediction is not None and not prediction.missing and not prediction.masks.any()
        )
        details["said_mask"] = prediction is not None and bool(prediction.masks.any())
        values = {"J": float(j.mean()), "F": float(f.mean())}
        return ItemScore(
            video=video.id,
            id=expression.id,
            text=expression.text,
            group=expression.group,
            values={**values, "J&F": (values["J"] + values["F"]) / 2},
            frames={"J": j.tolist(), "F": f.tolist()},
            missing=missing_frames(video, prediction),
            details=details,
        )


def score_frames(truth: np.ndarray, prediction: Prediction | None) -> tuple[np.ndarray, np.ndarray]:
    """J and F of each frame, each (K,) float64 in [0, 1]; 0 where there is no mask.

    Args:
        truth: (K, H, W) bool.
        prediction: None if there is nothing.
    """
    if prediction is None:
        return np.zeros(len(truth)), np.zeros(len(truth))
    j, f = frame_scores(truth, prediction.masks)
    missing = list(prediction.missing)
    j[missing] = f[missing] = 0.0
    return j, f


def _row(items: Sequence[ItemScore]) -> dict[str, float]:
    """Means in percent."""
    row: dict[str, float] = {}
    if items:
        row = {metric: 100 * float(np.mean([i.values[metric] for i in items])) for metric in ("J", "F")}
        row["J&F"] = (row["J"] + row["F"]) / 2
    absent = [item for item in items if item.details["no_target"]]
    present = [item for item in items if not item.details["no_target"]]
    if absent:
        row["N-acc"] = 100 * float(np.mean([item.details["said_empty"] for item in absent]))
        if present:
            row["T-acc"] = 100 * float(np.mean([item.details["said_mask"] for item in present]))
    return {**row, "expressions": float(len(items))}
