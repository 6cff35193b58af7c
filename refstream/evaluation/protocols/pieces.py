"""What several protocols do alike: ask for the truth, read a prediction, check an option."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from refstream.errors import UserError
from refstream.evaluation.benchmark import Altered, EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Prediction, Predictions
from refstream.evaluation.protocols.base import ItemScore

LEFT_OUT = "left_out"  # key of ItemScore.details: why public code has no score for the item
ABSENT = "no prediction"
Flaw = str


def check_compat(protocol: str, compat: str | None, choices: Iterable[str]) -> str | None:
    """``compat`` itself.

    Raises:
        UserError: If it is neither None nor one of ``choices``; names them.
    """
    known = sorted(choices)
    if compat is not None and compat not in known:
        offer = f"choose one of {', '.join(known)}, or leave it out" if known else "it has none; leave it out"
        raise UserError(f"protocol {protocol} has no compatibility mode {compat!r}; {offer}")
    return compat


def original(benchmark: MaskBenchmark) -> MaskBenchmark:
    """The reader behind a benchmark whose list of videos was altered; it has the format's own methods."""
    while isinstance(benchmark, Altered):
        benchmark = benchmark.base
    return benchmark


def true_masks(benchmark: MaskBenchmark, video: EvalVideo, expression: EvalExpression) -> np.ndarray:
    """(K, H, W) bool.

    Raises:
        UserError: If the truth is not public, or does not have a mask per scored frame.
    """
    truth = benchmark.truth(video, expression)
    if truth is None:
        raise UserError(
            f"the masks of {benchmark.name} {benchmark.split} are not public, so video {video.id} cannot be "
            "scored here; make a submission of the predictions, or choose another split"
        )
    check_frames(video, truth, f"the truth of expression {expression.id}")
    return truth


def check_frames(video: EvalVideo, masks: np.ndarray, what: str) -> None:
    """Raise UserError unless ``masks`` is (K, H, W) with K the number of scored frames."""
    expected = len(video.scored_frames)
    if masks.ndim != 3 or len(masks) != expected:
        raise UserError(
            f"video {video.id}, {what}: expected (frames, height, width) with {expected} frames, "
            f"got {masks.shape}"
        )


def read_masks(
    predictions: Predictions, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]
) -> Prediction | None:
    """A prediction whose masks are (K, H, W) bool of the given size, None if there is nothing of it.

    Raises:
        UserError: If it does not fit.
    """
    prediction = predictions.read(video, expression, size)
    if prediction is None:
        return None
    expected = (len(video.scored_frames), *size)
    if prediction.masks.shape != expected or prediction.masks.dtype != bool:
        raise UserError(
            f"video {video.id}, expression {expression.id}: expected masks {expected} bool as the truth has, "
            f"got {prediction.masks.shape} {prediction.masks.dtype}; masks are not resized"
        )
    return prediction


def read_whole(
    predictions: Predictions, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]
) -> Prediction | Flaw:
    """As ``read_masks``; what keeps public code from scoring an expression comes back in words."""
    try:
        prediction = read_masks(predictions, video, expression, size)
    except UserError as error:
        return str(error)
    if prediction is None:
        return ABSENT
    if prediction.missing:
        return f"no mask for frame {video.scored_frames[prediction.missing[0]]}"
    return prediction


def missing_frames(video: EvalVideo, prediction: Prediction | None) -> tuple[str, ...]:
    """Names of the scored frames without a mask."""
    names = video.scored_frames
    return names if prediction is None else tuple(names[position] for position in prediction.missing)


def counted(items: Sequence[ItemScore]) -> list[ItemScore]:
    """Without those that a compatibility mode leaves out of the means."""
    return [item for item in items if LEFT_OUT not in item.details]
