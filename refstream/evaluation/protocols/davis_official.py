"""Ref-DAVIS17 as its authors score it: label maps by annotator, under the DAVIS-2017 unsupervised task.

Sources: Khoreva et al., "Video Object Segmentation with Language Referring Expressions" (ACCV 2018), for the
four annotations; Caelles et al., "The 2019 DAVIS Challenge on VOS: Unsupervised Multi-Object Segmentation",
for the task; the arithmetic follows the DAVIS-2017 evaluation code.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.metrics.jf import SequenceStatistics, sequence_statistics
from refstream.evaluation.predictions.base import Predictions
from refstream.evaluation.protocols.base import OVERALL, EvalProtocol, ItemScore, Summary
from refstream.evaluation.protocols.davis_tasks import unsupervised
from refstream.evaluation.protocols.label_maps import (
    LabelledBenchmark,
    LabelPredictions,
    ScorePredictions,
    annotator_and_object,
    merge_masks,
    merge_scores,
)
from refstream.evaluation.protocols.pieces import (
    check_compat,
    check_frames,
    missing_frames,
    original,
    read_masks,
)

STATISTICS = ("J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
ITEM_KEYS = ("J", "J-Recall", "J-Decay", "F", "F-Recall", "F-Decay")  # of ItemScore.values, in this order


class DavisOfficial(EvalProtocol):
    """Four annotators' expressions, merged into a label map each; the figures are the mean of the four.

    Each annotator's maps are scored over all frames, without void pixels, and matched to the annotated
    objects by the best total of mean (J + F) / 2; mean over the objects of all videos. An object that nobody
    describes is scored like any other. Swapped identities cost nothing.

    Predictions are read as label maps if they have ``read_labels``; else merged by score if they have
    ``read_scores``; else merged from masks, the lower object winning where they overlap. Missing videos,
    expressions and frames count as empty and are listed. The official code has no score for them: it ends.

    An item is an object of one annotator: id "anno_<a>/object_<k>" with k its number in the truth (the
    official per-object table numbers by matched label instead: ``details["proposal"]``). Values are in
    [0, 1], "J" and "F" being means over frames; the summary is in percent, but for "objects", a number. The
    decay of more than 256 frames can be undefined in the official code: it is left out then.

    Args:
        compat: There are no compatibility modes; only None.
    """

    name = "davis-official"
    headline = "J&F-Mean"

    def __init__(self, compat: str | None = None) -> None:
        self.compat = check_compat(self.name, compat, ())

    def score_video(
        self, benchmark: MaskBenchmark, video: EvalVideo, predictions: Predictions
    ) -> list[ItemScore]:
        source = original(benchmark)
        if not isinstance(source, LabelledBenchmark):
            raise UserError(
                f"protocol {self.name} needs label maps of all objects; benchmark {benchmark.name} has none, "
                "choose per-expression"
            )
        truth = source.label_map(video)
        check_frames(video, truth, "the label maps of the truth")
        return [
            item
            for annotator in _annotators(benchmark)
            for item in _score_annotator(video, annotator, truth, predictions)
        ]

    def summarize(self, benchmark: MaskBenchmark, items: Sequence[ItemScore]) -> Summary:
        groups = dict.fromkeys(item.group for item in items)
        rows = {group: _row([item for item in items if item.group == group]) for group in groups}
        names = [name for name in ("J&F-Mean", *STATISTICS) if rows and all(name in r for r in rows.values())]
        overall = {name: float(np.mean([row[name] for row in rows.values()])) for name in names}
        return {OVERALL: {**overall, "objects": float(len(items))}, **rows}


def _score_annotator(
    video: EvalVideo, annotator: int, truth: np.ndarray, predictions: Predictions
) -> Iterator[ItemScore]:
    expressions = _by_object(video, annotator)
    labels, missing = _labels(video, annotator, expressions, truth.shape, predictions)
    try:
        scores = unsupervised(truth, labels)
    except ValueError as error:
        raise UserError(f"video {video.id}, annotator {annotator}: {error}") from error
    for score in scores:
        statistics = (*_statistics(score.j), *_statistics(score.f))
        values = {k: v for k, v in zip(ITEM_KEYS, statistics, strict=True) if math.isfinite(v)}
        yield ItemScore(
            video=video.id,
            id=f"anno_{annotator}/object_{score.number}",
            text="",
            group=f"annotator {annotator}",
            values={"J&F": (values["J"] + values["F"]) / 2, **values},
            frames={"J": score.j.tolist(), "F": score.f.tolist()},
            missing=missing.get(score.number, ()),
            details={
                "annotator": annotator,
                "object": score.number,
                "proposal": score.proposal,
                "described": score.number in expressions,
            },
        )


def _labels(
    video: EvalVideo,
    annotator: int,
    expressions: Mapping[int, EvalExpression],
    shape: tuple[int, ...],
    predictions: Predictions,
) -> tuple[np.ndarray, dict[int, tuple[str, ...]]]:
    """(K, H, W) uint8 of an annotator, and by object the names of the frames that are missing."""
    size, names = (shape[1], shape[2]), video.scored_frames
    empty = np.zeros(shape, dtype=np.uint8)
    if isinstance(predictions, LabelPredictions):
        maps = predictions.read_labels(video, annotator, size)
        absent = names if maps is None else tuple(names[position] for position in maps.missing)
        if maps is not None and maps.labels.shape != shape:
            raise UserError(
                f"video {video.id}, annotator {annotator}: expected label maps {shape} as the truth has, got "
                f"{maps.labels.shape}; labels are not resized"
            )
        return (empty if maps is None else maps.labels), dict.fromkeys(expressions, absent)
    missing: dict[int, tuple[str, ...]] = {}
    if isinstance(predictions, ScorePredictions):
        soft: ScorePredictions = predictions

        def scores() -> Iterator[np.ndarray]:
            for number, expression in expressions.items():
                one = soft.read_scores(video, expression, size)
                missing[number] = names if one is None else ()
                yield np.zeros(shape, dtype=np.float32) if one is None else one

        try:
            return (merge_scores(scores(), expressions) if expressions else empty), missing
        except ValueError as error:
            raise UserError(f"video {video.id}, annotator {annotator}: {error}") from error

    def masks() -> Iterator[tuple[int, np.ndarray]]:
        for number, expression in expressions.items():
            prediction = read_masks(predictions, video, expression, size)
            missing[number] = missing_frames(video, prediction)
            if prediction is not None:
                yield number, prediction.masks

    return merge_masks(masks(), (shape[0], *size)), missing


def _annotators(benchmark: MaskBenchmark) -> list[int]:
    """All of the benchmark's, also those who say nothing about some video."""
    pairs = ((video, expression) for video in benchmark.videos for expression in video.expressions)
    return sorted({annotator_and_object(video, expression)[0] for video, expression in pairs})


def _by_object(video: EvalVideo, annotator: int) -> dict[int, EvalExpression]:
    """An annotator's expressions by object number, ascending."""
    found: dict[int, EvalExpression] = {}
    for expression in video.expressions:
        by, number = annotator_and_object(video, expression)
        if by != annotator:
            continue
        if number in found:
            raise UserError(
                f"video {video.id}: annotator {annotator} has two expressions of object {number}, "
                f"{found[number].id} and {expression.id}; expected one"
            )
        found[number] = expression
    return dict(sorted(found.items()))


def _statistics(values: np.ndarray) -> SequenceStatistics:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of an empty quarter; not finite, left out
        return sequence_statistics(values)


def _row(items: Sequence[ItemScore]) -> dict[str, float]:
    """Means over objects, in percent."""
    row = {
        name: 100 * float(np.mean([item.values[key] for item in items]))
        for name, key in zip(STATISTICS, ITEM_KEYS, strict=True)
        if all(key in item.values for item in items)
    }
    return {"J&F-Mean": (row["J-Mean"] + row["F-Mean"]) / 2, **row, "objects": float(len(items))}
