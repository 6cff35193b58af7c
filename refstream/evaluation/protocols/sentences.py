"""P@K, Overall IoU, Mean IoU and mAP of single frames: A2D-Sentences, JHMDB-Sentences.

Sources: Gavrilyuk et al., "Actor and Action Video Segmentation from a Sentence" (CVPR 2018), section 4; the
arithmetic follows ``metrics.py`` of mttr2021/MTTR, which ReferFormer has too, and COCO's evaluator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from refstream.data.rle import RLE, decode, encode
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.metrics.coco_ap import ScoredMask, average_precision
from refstream.evaluation.metrics.iou import intersection_and_union
from refstream.evaluation.predictions.base import Prediction, Predictions
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
    the figure "masks with confidence" says for how many of 100 masks the model gave one.

    Values: "IoU" in [0, 1]; summary in percent ("expressions": how many). ``details`` has "inter" and "union"
    in pixels, "confidence" or None, and both masks as RLE ("truth"; "mask", None if missing).

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
            ScoredMask(name, detail["mask"], _or_constant(detail["confidence"]))
            for name, detail in zip(names, details, strict=True)
            if detail["mask"] is not None
        ]
        precision = average_precision(truth, found)
        figures = _overlaps(
            [item.values["IoU"] for item in items],
            [detail["inter"] for detail in details],
            [detail["union"] for detail in details],
        )
        figures |= {name: precision[name] for name in AP}
        stated = sum(d["confidence"] is not None for d in details if d["mask"] is not None)
        figures[WITH_CONFIDENCE] = stated / len(found) if found else 0.0
        percent = {name: 100 * value for name, value in figures.items()}
        return {OVERALL: percent | {"expressions": float(len(items))}}

    def _score(
        self, benchmark: MaskBenchmark, video: EvalVideo, expression: EvalExpression, predictions: Predictions
    ) -> ItemScore:
        truth, prediction, result = read_picture(benchmark, video, expression, predictions)
        there = result_is_there(prediction)
        inter, union = (int(n.sum()) for n in intersection_and_union(truth, result))
        details: dict[str, Any] = {
            "inter": inter,
            "union": union,
            "confidence": _confidence(prediction, expression.id),
            "truth": encode(truth[0]),
            "mask": encode(result[0]) if there else None,
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


def sentence_scores(truth: dict[str, RLE], found: Sequence[ScoredMask]) -> dict[str, float]:
    """All figures from masks alone, with any number of masks per sample.

    For P@K and the IoUs the mask with the highest score counts, of equal ones the last; for the precisions
    all do. Samples without a mask are treated as by ``Sentences``.

    Args:
        truth: Name of a sample -> its true mask.
        found: Masks of the samples.

    Returns:
        "P@0.5" to "P@0.9", "Overall IoU", "Mean IoU" and those of ``coco_ap.NAMES``, in [0, 1].

    Raises:
        ValueError: As ``average_precision``.
    """
    precision = average_precision(truth, found)
    best: dict[str, ScoredMask] = {}
    for one in found:
        if one.image not in best or one.score >= best[one.image].score:
            best[one.image] = one
    ious, inters, unions = [], [], []
    for name, code in truth.items():
        gt = decode(code)
        result = decode(best[name].mask) if name in best else np.zeros_like(gt)
        inter, union = (int(n) for n in intersection_and_union(gt, result))
        ious.append(smoothed_iou(inter, union))
        inters.append(inter)
        unions.append(union)
    return {**_overlaps(ious, inters, unions), **precision}


def _overlaps(ious: Sequence[float], inters: Sequence[int], unions: Sequence[int]) -> dict[str, float]:
    figures = {f"P@{k}": sum(iou > k for iou in ious) / len(ious) for k in THRESHOLDS}
    total = sum(unions)
    figures["Overall IoU"] = sum(inters) / total if total else 1.0
    figures["Mean IoU"] = sum(ious) / len(ious)
    return figures


def _confidence(prediction: Prediction | None, name: str) -> float | None:
    if prediction is None or prediction.missing or prediction.confidence is None:
        return None
    confidence = float(prediction.confidence[0])
    if not math.isfinite(confidence):
        raise UserError(f"sample {name}: the confidence of its mask must be finite, got {confidence}")
    return confidence


def _or_constant(confidence: float | None) -> float:
    return NO_CONFIDENCE if confidence is None else confidence
