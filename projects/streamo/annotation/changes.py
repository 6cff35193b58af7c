"""When does the picture change, and when does something move?

Two signals over frames at an even rate, both in [0, 1] and both free of any model:

- ``colour_distance``: the earth mover's distance between the values of two pictures, the largest of the three
  channels. Something that moves before a like background leaves it as it is; a cut, a light, a thing that
  comes or goes changes it. A picture of one value a that becomes one of value b has the distance |a - b| /
  255.
- ``moving_share``: the share of 32 x 32 cells whose mean colour changes by more than 16 of 255. Anything that
  moves changes some; the noise of a camera or of compression does not.

All thresholds are our own choices (assumed): the paper finds its change points with a language model.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

LEVELS = 256
SMALL_SIDE = 32
CHANGE_FLOOR = 0.006
"""Least colour distance that counts as a change, however quiet the video: 1.5 levels of 255."""
CELL_STEP = 16
"""By more than so many levels a cell changes."""
MOTION_FLOOR = 0.002
"""Something moves if more than this share of the cells changes between scanned frames: 3 cells or more."""
DEVIATIONS = 6.0
"""A change stands out by so many standard deviations, estimated by the median absolute deviation."""
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Span:
    """A stretch in which a signal is high.

    Attributes:
        start_s: Time of the last frame before it.
        end_s: Time of the first frame at which it is over: at a cut, the first frame of the new scene.
        strength: The signal's maximum, in [0, 1].
    """

    start_s: float
    end_s: float
    strength: float


def colour_cumulative(image: np.ndarray) -> np.ndarray:
    """Share of the pixels of (H, W, 3) uint8 that are at most of each value: (3, 256) float32."""
    counts = np.stack([np.bincount(image[..., c].ravel(), minlength=LEVELS) for c in range(3)])
    return (counts.cumsum(1) / counts.sum(1, keepdims=True)).astype(np.float32)


def colour_distance(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Earth mover's distance between cumulative shares (..., 3, 256), worst channel: (...) in [0, 1]."""
    return np.asarray(np.abs(before - after)[..., :-1].mean(-1).max(-1), dtype=np.float64)


def small_picture(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 shrunk to (32, 32, 3) uint8 by averaging; motion is looked for there."""
    return np.asarray(
        cv2.resize(image, (SMALL_SIDE, SMALL_SIDE), interpolation=cv2.INTER_AREA), dtype=np.uint8
    )


def moving_share(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Share of the cells of (..., h, w, 3) uint8 that change in some channel: (...) float64 in [0, 1]."""
    gap = np.abs(before.astype(np.int16) - after.astype(np.int16)).max(-1)
    return np.asarray((gap > CELL_STEP).mean((-2, -1)), dtype=np.float64)


def robust_threshold(signal: np.ndarray, floor: float) -> float:
    """Median + 6 standard deviations (by the median absolute deviation) of (T,), at least ``floor``."""
    if not len(signal):
        return floor
    middle = float(np.median(signal))
    deviation = MAD_TO_SIGMA * float(np.median(np.abs(signal - middle)))
    return max(floor, middle + DEVIATIONS * deviation)


def find_changes(cumulative: np.ndarray, times: np.ndarray, lag: int, threshold: float | None) -> list[Span]:
    """Changes of the picture: cuts, and gradual ones with their begin and end.

    Each frame is compared with the one ``lag`` frames before, so that slow changes add up. A run of frames
    over the threshold, from k to m, is one change: frame k - 1 was the last one before it, and as frame
    m - lag + 1 already shows what frame m + 1 shows, it is the first one after. Two changes less than ``lag``
    frames apart are one; one in which the video ends is over where the picture is what it is at the end.

    Args:
        cumulative: (T, 3, 256) of ``colour_cumulative``.
        times: (T,) seconds.
        lag: At least 1.
        threshold: In [0, 1]; None sets it by ``robust_threshold``.

    Returns:
        In order of time.

    Raises:
        ValueError: If the lengths differ or the lag is less than 1.
    """
    if lag < 1 or len(cumulative) != len(times):
        raise ValueError(
            f"expected lag >= 1 and one time per frame, got lag {lag}, {len(cumulative)} frames and "
            f"{len(times)} times"
        )
    earlier = np.maximum(np.arange(len(times)) - lag, 0)
    signal = colour_distance(cumulative[earlier], cumulative)
    least = robust_threshold(signal[1:], CHANGE_FLOOR) if threshold is None else threshold
    found = []
    for first, last in runs(signal > least):
        after = max(last - lag + 1, first)
        if last == len(times) - 1:  # the video ends in it: over once it looks as it does at the end
            unlike = colour_distance(cumulative[first : last + 1], cumulative[last]) > least
            after = first + int(np.flatnonzero(unlike)[-1]) + 1 if unlike.any() else first
        found.append(
            Span(float(times[first - 1]), float(times[after]), float(signal[first : last + 1].max()))
        )
    return found


def find_motion(small: np.ndarray, times: np.ndarray, gap_s: float, threshold: float | None) -> list[Span]:
    """Stretches in which something moves: pauses of at most ``gap_s`` belong to them.

    Args:
        small: (T, h, w, 3) uint8 of ``small_picture``.
        times: (T,) seconds.
        gap_s: Longest pause within one stretch.
        threshold: In [0, 1]; None is ``MOTION_FLOOR``: what moves all the time is still moving.

    Returns:
        In order of time; a span goes from the last frame at rest to the first frame at rest.

    Raises:
        ValueError: If the lengths differ.
    """
    if len(small) != len(times):
        raise ValueError(f"expected one time per frame, got {len(small)} frames and {len(times)} times")
    if len(times) < 2:
        return []
    signal = np.concatenate([[0.0], moving_share(small[:-1], small[1:])])
    least = MOTION_FLOOR if threshold is None else threshold
    joined: list[Span] = []
    for first, last in runs(signal > least):
        span = Span(float(times[first - 1]), float(times[last]), float(signal[first : last + 1].max()))
        if joined and span.start_s - joined[-1].end_s <= gap_s:
            before = joined.pop()
            span = Span(before.start_s, span.end_s, max(before.strength, span.strength))
        joined.append(span)
    return joined


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First and last index (inclusive) of each run of True in (T,) bool."""
    padded = np.concatenate([[False], flags, [False]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(padded))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def segments(changes: list[Span], duration_s: float, min_s: float) -> list[tuple[float, float]]:
    """The parts of a video between its changes, back to back from 0 to its end.

    A part ends where the change after it is over, which is where its successor can be seen. A change that
    would leave less than ``min_s`` on either side is no border.

    Args:
        changes: In order of time.
        duration_s: Of the video.
        min_s: Shortest part.
    """
    borders = [0.0]
    for change in changes:
        if change.end_s - borders[-1] >= min_s and duration_s - change.end_s >= min_s:
            borders.append(change.end_s)
    borders.append(duration_s)
    return list(pairwise(borders))
