"""Seconds of a stream: which interval a time lies in, what its tag says, which frame stands for it.

Interval k of a clock of f intervals per second is [k/f, (k+1)/f). Its frame is the first one at or after k/f
by the video's own timestamps, so a tag is never further from its frame than one native frame, at any frame
rate and length. (Taking every n-th frame, n the rounded rate, drifts by 3 % at 29.97 frames per second.)
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE_S = 1e-3
"""Times closer than this are the same: containers round timestamps to milliseconds."""
MAX_FPS = 100.0


def seconds_text(time_s: float) -> str:
    """Seconds in the shortest form of at most three decimals: "3", "0.5", "0.333"."""
    return f"{time_s:.3f}".rstrip("0").rstrip(".")


def interval_label(start_s: float, end_s: float) -> str:
    """The tag of an interval, e.g. ``<3s-4s>`` or ``<0.5s-1s>``."""
    return f"<{seconds_text(start_s)}s-{seconds_text(end_s)}s>"


@dataclass(frozen=True)
class StreamClock:
    """Cuts a stream into intervals, one turn of the dialogue each.

    Attributes:
        fps: Intervals per second, in (0, 100]; the paper trains at 1 and tests at 1 and 2.

    Raises:
        ValueError: If fps lies elsewhere.
    """

    fps: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.fps <= MAX_FPS:
            raise ValueError(f"a clock needs 0 < fps <= {MAX_FPS:g}, got {self.fps}")

    def start(self, index: int) -> float:
        """Where interval ``index`` begins, in seconds."""
        return index / self.fps

    def label(self, index: int) -> str:
        """The tag of interval ``index``."""
        return interval_label(self.start(index), self.start(index + 1))

    def interval_at(self, time_s: float) -> int:
        """The interval that contains a time of 0 s or later."""
        return math.floor((time_s + TOLERANCE_S) * self.fps)

    def first_from(self, time_s: float) -> int:
        """The first interval that begins at or after a time of 0 s or later."""
        return max(math.ceil((time_s - TOLERANCE_S) * self.fps), 0)

    def intervals(self, duration_s: float) -> int:
        """How many intervals begin before ``duration_s``; a last one that is not full counts."""
        return self.first_from(duration_s)

    def frame_of(self, index: int, times: Sequence[float]) -> int:
        """The first frame at or after the start of interval ``index``.

        It lies in that interval unless the video has no frame there (a gap, or a lower rate than the
        clock's).

        Args:
            index: Number of the interval.
            times: Of the frames, in seconds from the first one, not decreasing.

        Raises:
            ValueError: If the video is over before the interval begins.
        """
        frame = bisect_left(times, self.start(index) - TOLERANCE_S)
        if frame == len(times):
            end = f"its last frame is at {times[-1]:.3f} s" if times else "it has no frame"
            raise ValueError(f"interval {self.label(index)} begins after the video: {end}")
        return frame

    def frames(self, times: Sequence[float]) -> list[int]:
        """The frame of every interval that begins at or before the last frame, in order."""
        return [self.frame_of(k, times) for k in range(self.interval_at(times[-1]) + 1)] if times else []
