"""The entry of one expression in a JSON file of predictions, in the forms that public code writes.

A list of masks, one per frame; a single mask; or an object that has them under a key::

    prediction_masks | masks   list of RLE or null, one per frame (null: nothing in this frame)
    mask | segmentation        one RLE or null
    frames                     names of the frames of the list, if it is not all of them
    confidence | score         one number in [0, 1], or one per frame
    no_target                  true or false: the model's own word
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refstream.data import rle
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalVideo
from refstream.evaluation.predictions.base import Prediction
from refstream.evaluation.predictions.frames import align

LISTS, SINGLES = ("prediction_masks", "masks"), ("mask", "segmentation")
CONFIDENCES = ("confidence", "score")
CODE_KEYS = frozenset({"size", "counts"})
RECORD_KEYS = frozenset({*LISTS, *SINGLES, *CODE_KEYS})
"""An object with one of these is an entry or a mask, not a folder of entries."""


def placed(record: Any, video: EvalVideo, where: str) -> list[int | None] | None:
    """Where each of the K scored frames lies in an entry's list; None if the entry holds nothing.

    Raises:
        UserError: If it is of another form, or its frames do not fit the video.
    """
    masks = _masks(record, where)
    if not masks:
        return None
    names = record.get("frames") if isinstance(record, dict) and "counts" not in record else None
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise UserError(f"{where}: expected 'frames' to be a list of names, got {str(names)[:60]!r}")
    return align(video, names, len(masks), where)


def prediction_of(record: Any, video: EvalVideo, size: tuple[int, int], where: str) -> Prediction | None:
    """Decode an entry.

    Args:
        record: Parsed JSON.
        video: Says which frames are scored.
        size: (H, W) of the truth.
        where: File and place in it, for errors.

    Returns:
        None if the entry is null or lists nothing.

    Raises:
        UserError: If it is of another form, or does not fit.
    """
    places = placed(record, video, where)
    if places is None:
        return None
    codes = _masks(record, where)
    masks = np.zeros((len(places), *size), dtype=bool)
    for k, place in enumerate(places):
        code = None if place is None else codes[place]
        if code is not None:
            masks[k] = _decoded(code, size, f"{where}, frame {video.scored_frames[k]}")
    return Prediction(
        masks,
        tuple(k for k, place in enumerate(places) if place is None),
        _confidence(record, places, len(codes), where),
        _no_target(record, where),
    )


def check_confidence(values: np.ndarray, count: int, where: str) -> np.ndarray:
    """(count,) float64 in [0, 1]. Raises UserError for anything else."""
    if values.shape != (count,) or not np.issubdtype(values.dtype, np.number):
        raise UserError(f"{where}: expected {count} confidences, got {values.shape} {values.dtype}")
    sure = values.astype(np.float64)
    if not ((sure >= 0) & (sure <= 1)).all():
        raise UserError(f"{where}: confidences must lie in [0, 1], got {sure.min()} to {sure.max()}")
    return sure


def _masks(record: Any, where: str) -> Sequence[Any]:
    if record is None:
        return []
    if isinstance(record, list):
        return record
    if isinstance(record, dict):
        if record.keys() >= CODE_KEYS:
            return [record]
        for key in LISTS:
            if isinstance(record.get(key), list):
                masks: list[Any] = record[key]
                return masks
        for key in SINGLES:
            if key in record:
                return [record[key]]
    raise UserError(
        f"{where}: expected a list of RLE or null, one per frame, or an object that has it as "
        f"'prediction_masks'; got {str(record)[:80]!r}"
    )


def _decoded(code: Any, size: tuple[int, int], where: str) -> np.ndarray:
    try:
        mask = rle.decode(code)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}") from error
    if mask.shape != size:
        raise UserError(
            f"{where}: the mask is of size {mask.shape}, expected {size} as the truth has (height, width); "
            "resize logits before thresholding, never masks"
        )
    return mask


def _confidence(record: Any, places: Sequence[int | None], count: int, where: str) -> np.ndarray | None:
    said = record if isinstance(record, dict) else {}
    given = [said[key] for key in CONFIDENCES if said.get(key) is not None]
    if not given:
        return None
    values = given[0] if isinstance(given[0], list) else [given[0]] * count
    if not all(isinstance(value, int | float) for value in values):
        raise UserError(f"{where}: expected numbers as confidence, got {str(given[0])[:60]!r}")
    sure = check_confidence(np.array(values, dtype=np.float64), count, where)
    return np.array([0.0 if place is None else sure[place] for place in places])


def _no_target(record: Any, where: str) -> bool | None:
    said = record.get("no_target") if isinstance(record, dict) else None
    if said is not None and not isinstance(said, bool):
        raise UserError(f"{where}: expected no_target to be true or false, got {str(said)[:60]!r}")
    return said
