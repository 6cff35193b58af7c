"""Generalised referring: any number of targets, also none (gRefCOCO).

Source: Liu et al., "GRES: Generalized Referring Expression Segmentation" (CVPR 2023), section 3.2, and the
``ReferEvaluator`` of henghuiding/ReLA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Prediction, Predictions
from refstream.evaluation.protocols.base import OVERALL, EvalProtocol, ItemScore, Summary
from refstream.evaluation.protocols.pictures import check_overlap, read_picture
from refstream.evaluation.protocols.pieces import check_compat, missing_frames

THRESHOLDS = (0.7, 0.8, 0.9)
COMPAT = {"rela": "ReferEvaluator of ReLA: N-acc and T-acc are 0 where no expression lacks a target"}


class GRES(EvalProtocol):
    """A prediction is a mask and a flag "there is no target"; without a flag, an empty mask stands for it.

    - No target and flagged: IoU 1, nothing added to the sums, whatever the mask.
    - No target, not flagged: IoU 0, the mask's pixels are added to the unions.
    - Target and flagged: IoU 0, nothing added to the intersections, the union with the mask to the unions.
    - Target, not flagged: as usual.

    gIoU is the mean IoU of all samples, cIoU the sum of intersections over the sum of unions; N-acc is the
    share of samples without target that are flagged, T-acc the share of those with a target that are not;
    Pr@K the share of samples with a target whose IoU is >= K. A missing prediction counts as an empty mask,
    so as flagged, and is listed. A figure that is a mean of nothing is left out.

    Values: "IoU" in [0, 1]; summary in percent ("expressions": how many). ``details`` has "inter" and "union"
    as they enter the sums, "no_target" and "flagged".

    Args:
        compat: Reproduce public code; a key of ``COMPAT``.

    Raises:
        UserError: If there is no such compatibility mode.
    """

    name = "gres"
    headline = "gIoU"

    def __init__(self, compat: str | None = None) -> None:
        self.compat = check_compat(self.name, compat, COMPAT)

    def score_video(
        self, benchmark: MaskBenchmark, video: EvalVideo, predictions: Predictions
    ) -> list[ItemScore]:
        check_overlap(self, benchmark, "union")
        return [self._score(benchmark, video, e, predictions) for e in video.expressions]

    def summarize(self, benchmark: MaskBenchmark, items: Sequence[ItemScore]) -> Summary:
        if not items:
            return {OVERALL: {}}
        with_target = [item for item in items if not item.details["no_target"]]
        without = [item for item in items if item.details["no_target"]]
        total = sum(item.details["union"] for item in items)
        figures = {
            "gIoU": _mean([item.values["IoU"] for item in items]),
            "cIoU": sum(item.details["inter"] for item in items) / total if total else 1.0,
        }
        if without:
            figures["N-acc"] = _mean([item.details["flagged"] for item in without])
        if with_target:
            figures["T-acc"] = _mean([not item.details["flagged"] for item in with_target])
            for k in THRESHOLDS:
                figures[f"Pr@{k}"] = _mean([item.values["IoU"] >= k for item in with_target])
        if self.compat == "rela" and not without:
            figures |= {"N-acc": 0.0, "T-acc": 0.0}
        counts = {"expressions": float(len(items)), "no-target expressions": float(len(without))}
        return {OVERALL: {name: 100 * value for name, value in figures.items()} | counts}

    def _score(
        self, benchmark: MaskBenchmark, video: EvalVideo, expression: EvalExpression, predictions: Predictions
    ) -> ItemScore:
        truth, prediction, result = read_picture(benchmark, video, expression, predictions)
        no_target = bool(expression.details.get("no_target", not truth.any()))
        iou, details = _sample(truth, result, no_target, _flag(prediction, result))
        missing = missing_frames(video, prediction)
        return ItemScore(
            video.id, expression.id, expression.text, expression.group, {"IoU": iou}, {}, missing, details
        )


def _flag(prediction: Prediction | None, result: np.ndarray) -> bool:
    if prediction is None or prediction.no_target is None:
        return not result.any()
    return prediction.no_target


def _sample(
    truth: np.ndarray, result: np.ndarray, no_target: bool, flagged: bool
) -> tuple[float, dict[str, Any]]:
    """IoU and details; a target that has no pixel (of crowds only) gives IoU 0, as in ReLA."""
    inter, union = int(np.count_nonzero(truth & result)), int(np.count_nonzero(truth | result))
    if no_target:
        inter, union = 0, 0 if flagged else int(np.count_nonzero(result))
        iou = float(flagged)
    else:
        inter = 0 if flagged else inter
        iou = inter / union if union else 0.0
    return iou, {"inter": inter, "union": union, "no_target": no_target, "flagged": flagged}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
