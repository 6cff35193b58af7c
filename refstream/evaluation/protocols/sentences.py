"""P@K, Overall IoU, Mean IoU and mAP of single frames: A2D-Sentences, JHMDB-Sentences.

Sources: Gavrilyuk et al., "Actor and Action Video Segmentation from a Sentence" (CVPR 2018), section 4; the
arithmetic follows ``metrics.py`` of mttr2021/MTTR, which ReferFormer has too, and COCO's evaluator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from refstream.data.rle import encode
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.metrics.coco_ap import ScoredMask, average_precision
from refstream.evaluation.metrics.iou import intersection_and_union
from refstream.evaluation.predictions.base import Prediction, Predictions, SeveralMasks
from refstream.evaluation.protocols.base import OVERALL, EvalProtocol, ItemScore, Summary
from refstream.evaluation.protocols.pictures import read_picture, result_is_there
from refstream.evaluation.protocols.pieces import missing_frames

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
AP = ("mAP", "AP50", "AP75")
NO_CONFIDENCE = 1.0
WITH_CONFIDENCE = "masks with confidence"


class Sentences(EvalProtocol):
    """One mask per sample, of the sample's annotated frame, in its own size.

    P@K is the share of samples whose IoU is greater than K, where IoU = (I + 1e-6) / (U + 1e-6) in float32 is
    compared with K in float64, as in the public code: an IoU of exactly 0.6 or 0.8 counts, of 0.5, 0.7 or 0.9
    only for masks of few pixels. Mean IoU is the mean of these, Overall IoU the sum of intersections over the
    sum of unions. A missing prediction counts as an empty mask in all three (the public code fails), is no
    detection for mAP, and is listed.

    mAP ranks the masks of all samples by the model's confidence in its mask of the scored frame. Where
    predictions say none it is 1 for all, equal scores are ranked by the samples' names, and mAP means little:
    the figure "masks with confidence" says for how many of 100 masks the model gave one. Where predictions
    have several masks of a sample (``SeveralMasks``), all are ranked; for all else the best one counts.

    Values: "IoU" in [0, 1]; summary in percent ("expressions": how many). ``details`` has "inter" and "union"
    in pixels, the "truth" as RLE, and "found": "mask" and "confidence" (or None) of each mask.

    Raises:
        UserError: When scoring, if a confidence is not finite.
    """

    name = "a2d"
    headline = "mAP"

    def score_video(
        self, benchmark: MaskBenchmark, video: EvalVideo, predictions: Predictions
    ) -> list[ItemScore]:
        return [self._score(benchmark, video, e, predictions) for e in video.expressions]

    def summarize(self, benchmark: MaskBenchmark, items: Sequence[ItemScore]) -> Summary:
        if not items:
            return {OVERALL: {}}
        names = [item.id for item in items]
        if len(set(names)) < len(names):  # no benchmark of this protocol, but nothing forbids it
            names = [f"{item.video}/{item.id}" for item in items]
        details = [item.details for item in items]
        truth = {name: detail["truth"] for name, detail in zip(names, details, strict=True)}
        found = [
            ScoredMask(name, one["mask"], _score_of(one))
            for name, detail in zip(names, details, strict=True)
            for one in detail["found"]
        ]
        precision = average_precision(truth, found)
        figures = _overlaps(
            [item.values["IoU"] for item in items],
            [detail["inter"] for detail in details],
            [detail["union"] for detail in details],
        )
        figures |= {name: precision[name] for name in AP}
        stated = sum(one["confidence"] is not None for detail in details for one in detail["found"])
        figures[WITH_CONFIDENCE] = stated / len(found) if found else 0.0
        percent = {name: 100 * value for name, value in figures.items()}
        return {OVERALL: percent | {"expressions": float(len(items))}}

    def _score(
        self, benchmark: MaskBenchmark, video: EvalVideo, expression: EvalExpression, predictions: Predictions
    ) -> ItemScore:
        truth, prediction, result = read_picture(benchmark, video, expression, predictions)
        found = [prediction] if prediction is not None and result_is_there(prediction) else []
        if isinstance(predictions, SeveralMasks):
            found = predictions.read_all(video, expression, (truth.shape[1], truth.shape[2]))
        inter, union = (int(n.sum()) for n in intersection_and_union(truth, result))
        details: dict[str, Any] = {
            "inter": inter,
            "union": union,
            "truth": encode(truth[0]),
            "found": [_found(one, expression.id) for one in found],
        }
        missing = missing_frames(video, prediction)
        values = {"IoU": smoothed_iou(inter, union)}
        return ItemScore(
            video.id, expression.id, expression.text, expression.group, values, {}, missing, details
        )


def smoothed_iou(inter: int, union: int) -> float:
    """(I + 1e-6) / (U + 1e-6) in float32; 1 where both are 0."""
    small = np.float32(1e-6)
    return float((np.float32(inter) + small) / (np.float32(union) + small))


def _overlaps(ious: Sequence[float], inters: Sequence[int], unions: Sequence[int]) -> dict[str, float]:
    figures = {f"P@{k}": sum(iou > k for iou in ious) / len(ious) for k in THRESHOLDS}
    total = sum(unions)
    figures["Overall IoU"] = sum(inters) / total if total else 1.0
    figures["Mean IoU"] = sum(ious) / len(ious)
    return figures


def _found(prediction: Prediction, name: str) -> dict[str, Any]:
    """A mask as RLE and its confidence, JSON-serialisable."""
    sure = None if prediction.confidence is None else float(prediction.confidence[0])
    if sure is not None and not math.isfinite(sure):
        raise UserError(f"sample {name}: the confidence of its mask must be finite, got {sure}")
    return {"mask": encode(prediction.masks[0]), "confidence": sure}


def _score_of(found: dict[str, Any]) -> float:
    return NO_CONFIDENCE if found["confidence"] is None else float(found["confidence"])
