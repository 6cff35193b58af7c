"""Label maps of a video: made of masks, made of scores, or read from folders of PNG.

A label map gives each pixel the number of one object, 0 being background. The merge of scores is that of
ReferFormer (CVPR 2022), ``inference_davis.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from refstream.data.datasets.clip_masks import read_labels as read_label_png
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo
from refstream.evaluation.predictions.base import Prediction

MIN_SCORE = 0.5  # lower scores become 0; the background's 0.1 then wins
MAX_LABEL = 254  # 255 is void


@dataclass(frozen=True)
class LabelMaps:
    """The label maps of one annotator's expressions.

    Attributes:
        labels: (K, H, W) uint8 for the scored frames; zeros where one is missing.
        missing: Positions among the K frames for which there is none.
    """

    labels: np.ndarray
    missing: tuple[int, ...] = ()


@runtime_checkable
class LabelPredictions(Protocol):
    """Predictions that are label maps already."""

    def read_labels(self, video: EvalVideo, annotator: int, size: tuple[int, int]) -> LabelMaps | None:
        """Those of one annotator, None if there is nothing of the video.

        Raises:
            UserError: If a map is of another size or kind; names the file.
        """
        ...


@runtime_checkable
class ScorePredictions(Protocol):
    """Predictions that know how sure they are of each pixel."""

    def read_scores(
        self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]
    ) -> np.ndarray | None:
        """(K, H, W) float in [0, 1], None if there is nothing of the expression.

        Raises:
            UserError: If they do not fit; names the file.
        """
        ...


@runtime_checkable
class LabelledBenchmark(Protocol):
    """A benchmark whose truth is label maps."""

    def label_map(self, video: EvalVideo) -> np.ndarray:
        """(K, H, W) uint8: object numbers from 1, 0 background, 255 void."""
        ...


def merge_masks(masks: Iterable[tuple[int, np.ndarray]], shape: tuple[int, int, int]) -> np.ndarray:
    """Masks of numbered objects -> (T, H, W) uint8; where several are set, the first of them wins.

    Args:
        masks: Object number (1 to 254) and (T, H, W) bool, in ascending order of the numbers for the public
            rule (each mask scores 1, the lower object wins). One at a time is enough in memory.
        shape: (T, H, W).

    Raises:
        ValueError: If a number or a mask does not fit.
    """
    labels = np.zeros(shape, dtype=np.uint8)
    for number, mask in masks:
        if mask.dtype != bool:
            raise ValueError(f"expected bool masks, got {mask.dtype}")
        _check(number, mask, shape)
        labels[mask & (labels == 0)] = number
    return labels


def merge_scores(scores: Iterable[np.ndarray], numbers: Iterable[int] | None = None) -> np.ndarray:
    """Scores of N objects -> (T, H, W) uint8: the object of the highest score, if that is at least 0.5.

    Equal scores go to the object that comes first.

    Args:
        scores: (N, T, H, W) float in [0, 1], or N of (T, H, W), one of which at a time is enough in memory.
        numbers: The N object numbers; None: 1 to N.

    Raises:
        ValueError: If there are no scores, or they do not fit each other or [0, 1].
    """
    labels: np.ndarray | None = None
    names = iter(range(1, MAX_LABEL + 2) if numbers is None else numbers)
    for one in scores:
        number = next(names)
        if labels is None:
            labels = np.zeros(one.shape, dtype=np.uint8)
            best = np.zeros(one.shape, dtype=one.dtype)
        _check(number, one, labels.shape)
        if not np.issubdtype(one.dtype, np.floating) or not bool(((one >= 0) & (one <= 1)).all()):
            raise ValueError(f"expected scores in [0, 1] of object {number}, got {one.dtype} outside of it")
        higher = (one >= MIN_SCORE) & (one > best)
        labels[higher] = number
        best[higher] = one[higher]
    if labels is None:
        raise ValueError("expected the scores of at least one object, got none")
    return labels


class LabelMapFolder:
    """Predictions in ``<root>/anno_<annotator>/<video>/<frame>.png``, palette or grey PNG of object numbers.

    Read for an expression, the mask is what has its object's number in its annotator's maps.

    Args:
        root: Holds a folder per annotator.

    Raises:
        UserError: If there is no such folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not any(self.root.glob("anno_*")):
            raise UserError(f"{self.root}: expected folders of label maps anno_0, anno_1, ... and found none")

    def read_labels(self, video: EvalVideo, annotator: int, size: tuple[int, int]) -> LabelMaps | None:
        folder = self.root / f"anno_{annotator}" / video.id
        frames = video.scored_frames
        labels = np.zeros((len(frames), *size), dtype=np.uint8)
        missing = []
        for position, frame in enumerate(frames):
            path = folder / f"{frame}.png"
            if not path.is_file():
                missing.append(position)
                continue
            label = read_label_png(path)
            if label.shape != size:
                raise UserError(
                    f"{path} is of size {label.shape}, the truth of {size}; labels are not resized"
                )
            labels[position] = label
        return None if len(missing) == len(frames) else LabelMaps(labels, tuple(missing))

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        annotator, number = annotator_and_object(video, expression)
        maps = self.read_labels(video, annotator, size)
        return None if maps is None else Prediction(maps.labels == number, maps.missing)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the names, sizes and times of all maps."""
        digest = hashlib.sha256()
        for path in sorted(self.root.glob("anno_*/**/*.png")):
            state = path.stat()
            digest.update(repr((str(path.relative_to(self.root)), state.st_size, state.st_mtime_ns)).encode())
        return digest.hexdigest()


def annotator_and_object(video: EvalVideo, expression: EvalExpression) -> tuple[int, int]:
    """Who wrote an expression (from 0), and the number of the object it means (from 1).

    Raises:
        UserError: If the benchmark does not say.
    """
    annotator, number = expression.details.get("annotator"), expression.details.get("object")
    if not isinstance(annotator, int) or not isinstance(number, int) or not 1 <= number <= MAX_LABEL:
        raise UserError(
            f"video {video.id}, expression {expression.id}: label maps need its annotator (a number from 0) "
            f"and its object (a number from 1 to {MAX_LABEL}), got {annotator!r} and {number!r}"
        )
    return annotator, number


def _check(number: int, values: np.ndarray, shape: tuple[int, ...]) -> None:
    if not 1 <= number <= MAX_LABEL:
        raise ValueError(f"object numbers must lie in 1 to {MAX_LABEL}, got {number}")
    if values.shape != shape or len(shape) != 3:
        raise ValueError(f"object {number}: expected (T, H, W) = {shape}, got {values.shape}")
