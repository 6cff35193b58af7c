"""The two tasks of DAVIS-2017 on one video of label maps.

Sources: Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object Segmentation" (semi-supervised task);
Caelles et al., "The 2019 DAVIS Challenge on VOS: Unsupervised Multi-Object Segmentation"; the arithmetic
follows the DAVIS-2017 evaluation code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from refstream.evaluation.metrics.jf import frame_scores

VOID = 255
MAX_PROPOSALS = 20


class ObjectScore(NamedTuple):
    """One annotated object and what was matched to it.

    Attributes:
        number: Of the object, from 1.
        proposal: Label of the result that was matched to it, from 1; none of its pixels need exist.
        j: (T,) float64 in [0, 1].
        f: (T,) float64 in [0, 1].
    """

    number: int
    proposal: int
    j: np.ndarray
    f: np.ndarray


def unsupervised(truth: np.ndarray, labels: np.ndarray) -> list[ObjectScore]:
    """The DAVIS-2017 unsupervised task on one video, as the official code does it.

    The number of objects is the largest label of the first frame, void aside: a number below it that no
    pixel has counts, a label that appears later does not.

    Args:
        truth: (T, H, W) uint8, 255 void.
        labels: (T, H, W) uint8, at most 20 proposals.

    Returns:
        A score per object, in the order of their numbers.

    Raises:
        ValueError: If the shapes differ, or a proposal has a number above 20.
    """
    _check_labels(truth, labels)
    num_proposals = int(labels.max())
    if num_proposals > MAX_PROPOSALS:
        raise ValueError(f"at most {MAX_PROPOSALS} proposals are allowed, got the label {num_proposals}")
    void = truth == VOID
    num_objects = _num_objects(truth)
    num_rows = max(num_proposals, num_objects)
    j, f = np.zeros((2, num_rows, num_objects, len(truth)))
    for column in range(num_objects):
        target = truth == column + 1
        nothing = frame_scores(target, np.zeros_like(target), void)
        for row in range(num_rows):
            result = labels == row + 1
            pair = frame_scores(target, result, void) if result.any() else nothing
            j[row, column], f[row, column] = pair
    rows, columns = linear_sum_assignment(-(j.mean(axis=2) + f.mean(axis=2)) / 2)
    matched = sorted(zip(columns.tolist(), rows.tolist(), strict=True))
    return [ObjectScore(column + 1, row + 1, j[row, column], f[row, column]) for column, row in matched]


def semi_supervised(truth: np.ndarray, labels: np.ndarray) -> list[ObjectScore]:
    """The DAVIS-2017 semi-supervised task on one video: no matching, no void, first and last frame dropped.

    Args:
        truth: (T, H, W) uint8 with T at least 3; 255 counts as background.
        labels: (T, H, W) uint8, no label higher than those of the first frame of ``truth``.

    Returns:
        A score per object, in the order of their numbers.

    Raises:
        ValueError: If the arguments are not as said.
    """
    _check_labels(truth, labels)
    if len(truth) < 3:
        raise ValueError(
            f"the first and the last frame are dropped, so at least 3 are needed; got {len(truth)}"
        )
    num_objects, truth, labels = _num_objects(truth), truth[1:-1], labels[1:-1]
    if labels.max() > num_objects:
        raise ValueError(f"the first frame has {num_objects} objects, the result has label {labels.max()}")
    numbers = range(1, num_objects + 1)
    return [ObjectScore(k, k, *frame_scores(truth == k, labels == k)) for k in numbers]


def _num_objects(truth: np.ndarray) -> int:
    first = truth[0]
    return int(first.max(initial=0, where=first != VOID))


def _check_labels(truth: np.ndarray, labels: np.ndarray) -> None:
    for name, maps in (("truth", truth), ("labels", labels)):
        if maps.dtype != np.uint8 or maps.ndim != 3 or maps.size == 0:
            raise ValueError(f"{name} must be non-empty (T, H, W) uint8, got {maps.shape} {maps.dtype}")
    if truth.shape != labels.shape:
        raise ValueError(f"truth has shape {truth.shape}, labels have {labels.shape}; labels are not resized")
