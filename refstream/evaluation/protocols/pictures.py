"""cIoU, gIoU and Pr@K over pictures: RefCOCO, RefCOCO+, RefCOCOg, ReasonSeg."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.metrics.iou import intersection_and_union
from refstream.evaluation.predictions.base import Prediction, Predictions
from refstream.evaluation.protocols.base import OVERALL, EvalProtocol, ItemScore, Summary
from refstream.evaluation.protocols.pieces import check_compat, missing_frames, read_masks, true_masks
from refstream.evaluation.readers.outlines import Overlap

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
SKIPPED = "skipped"  # key of ItemScore.details: adds nothing to the sums of a compatibility mode


@dataclass(frozen=True)
class Compat:
    """What public code does differently.

    Attributes:
        overlap: How it reads outlines that overlap; the reader must have been told the same (its setting
            ``overlap``).
        skip_missing: A missing prediction adds nothing to the unions, and an IoU of 0.
        count_offset: Added to the number of samples when IoUs are averaged.
        what: In words.
    """

    overlap: Overlap
    skip_missing: bool
    count_offset: float
    what: str


COMPAT = {
    "lisa": Compat("background", False, 1e-5, "train_ds.py of LISA: a pixel of two polygons is background"),
    "res-skipping": Compat(
        "rle_of_sum",
        True,
        0.0,
        "RES evaluation of one MLLM line: a missing prediction is skipped, so cIoU is too high, and counts "
        "as IoU 0 even where the target is empty too; a picture without any prediction, at which that code "
        "stops, is scored by the same rule",
    ),
    "res_sa2va": Compat(
        "rle_of_sum", False, 0.0, "RES evaluation of Sa2VA: targets with overlapping outlines are corrupted"
    ),
}


class Pictures(EvalProtocol):
    """One sample per sentence, one mask per picture, in the picture's own size.

    cIoU is the sum of intersections over the sum of unions (also called oIoU), gIoU the mean of the samples'
    IoUs (also called mIoU), Pr@K the share of samples with IoU >= K (as MAttNet and LAVT have it). An empty
    union gives IoU 1. A missing prediction counts as an empty mask and is listed. Pixels that the benchmark
    calls void are left out. Source: LISA (CVPR 2024), section 5.1.

    Values: "IoU" in [0, 1]; summary in percent ("expressions": how many). Where expressions have groups, each
    has a row. ``details`` has "inter" and "union" in pixels.

    Args:
        headline: "cIoU" for the RefCOCO family, "gIoU" for ReasonSeg.
        compat: Reproduce public code, defects included; a key of ``COMPAT``. In such a mode sums are float32
            and 1e-5 or 1e-10 is added to divisors, as there.

    Raises:
        UserError: If there is no such headline or compatibility mode.
    """

    name = "cIoU+gIoU"

    def __init__(self, headline: str = "cIoU", compat: str | None = None) -> None:
        if headline not in ("cIoU", "gIoU"):
            raise UserError(f"the headline of protocol {self.name} is cIoU or gIoU, got {headline!r}")
        self.headline = headline
        self.compat = check_compat(self.name, compat, COMPAT)
        self._rule = None if compat is None else COMPAT[compat]
        self.reader_options = {} if self._rule is None else {"overlap": self._rule.overlap}

    def score_video(
        self, benchmark: MaskBenchmark, video: EvalVideo, predictions: Predictions
    ) -> list[ItemScore]:
        check_overlap(self, benchmark, "union" if self._rule is None else self._rule.overlap)
        void = benchmark.void(video)
        return [self._score(benchmark, video, e, predictions, void) for e in video.expressions]

    def summarize(self, benchmark: MaskBenchmark, items: Sequence[ItemScore]) -> Summary:
        groups = dict.fromkeys(item.group for item in items if item.group)
        rows = {group: self._row([item for item in items if item.group == group]) for group in groups}
        return {OVERALL: self._row(items), **rows}

    def _score(
        self,
        benchmark: MaskBenchmark,
        video: EvalVideo,
        expression: EvalExpression,
        predictions: Predictions,
        void: np.ndarray | None,
    ) -> ItemScore:
        truth, prediction, result = read_picture(benchmark, video, expression, predictions)
        inter, union = (int(n.sum()) for n in intersection_and_union(truth, result, void))
        skipped = self._rule is not None and self._rule.skip_missing and not result_is_there(prediction)
        iou = 0.0 if skipped else 1.0 if union == 0 else inter / union
        details = {"inter": inter, "union": union, **({SKIPPED: True} if skipped else {})}
        missing = missing_frames(video, prediction)
        return ItemScore(
            video.id, expression.id, expression.text, expression.group, {"IoU": iou}, {}, missing, details
        )

    def _row(self, items: Sequence[ItemScore]) -> dict[str, float]:
        if not items:
            return {}
        inter, union = [], []
        for item in items:
            counts = not item.details.get(SKIPPED, False)
            inter.append(item.details["inter"] if counts else 0)
            union.append(item.details["union"] if counts else 0)
        ious = [item.values["IoU"] for item in items]
        if self._rule is None:
            total = sum(union)
            figures = {"cIoU": sum(inter) / total if total else 1.0, "gIoU": sum(ious) / len(ious)}
        else:
            figures = _public_means(inter, union, ious, self._rule.count_offset)
        figures |= {f"Pr@{k}": sum(iou >= k for iou in ious) / len(ious) for k in THRESHOLDS}
        return {name: 100 * value for name, value in figures.items()} | {"expressions": float(len(items))}


def check_overlap(protocol: EvalProtocol, benchmark: MaskBenchmark, expected: str) -> None:
    """Raise UserError if a benchmark of outlines was read by another rule than the protocol's."""
    found = benchmark.settings.get("overlap", expected)
    if found != expected:
        mode = f"compatibility mode {protocol.compat!r}" if protocol.compat else "no compatibility mode"
        raise UserError(
            f"protocol {protocol.name} in {mode} needs masks with overlap={expected!r}, the benchmark "
            f"{benchmark.name} was read with overlap={found!r}; read it with the former"
        )


def read_picture(
    benchmark: MaskBenchmark, video: EvalVideo, expression: EvalExpression, predictions: Predictions
) -> tuple[np.ndarray, Prediction | None, np.ndarray]:
    """Truth and prediction of one picture.

    Returns:
        The true mask (1, H, W) bool, the prediction if there is one, and its mask (1, H, W) bool, empty if
        it is missing.

    Raises:
        UserError: If more than one frame is scored, or something does not fit.
    """
    truth = true_masks(benchmark, video, expression)
    if len(truth) != 1:
        raise UserError(f"{video.id} has {len(truth)} scored frames; pictures are scored one by one")
    prediction = read_masks(predictions, video, expression, (truth.shape[1], truth.shape[2]))
    result = prediction.masks if prediction is not None and not prediction.missing else np.zeros_like(truth)
    return truth, prediction, result


def result_is_there(prediction: Prediction | None) -> bool:
    """Whether there is a mask."""
    return prediction is not None and not prediction.missing


def _public_means(
    inter: Sequence[int], union: Sequence[int], ious: Sequence[float], offset: float
) -> dict[str, float]:
    """cIoU and gIoU with the constants and the precision of LISA's meters."""
    single = [i / (u + 1e-5) if u else iou for i, u, iou in zip(inter, union, ious, strict=True)]
    sum_inter, sum_union, sum_ious = (
        np.sum(np.array(values, dtype=np.float32)) for values in (inter, union, single)
    )
    return {
        "cIoU": float(sum_inter / (sum_union + np.float32(1e-10))),
        "gIoU": float(sum_ious) / (len(ious) + offset),
    }
