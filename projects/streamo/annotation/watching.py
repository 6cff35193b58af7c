"""A video as the annotators see it: frames at an even rate, and when the picture changes or moves."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refstream.errors import VideoError
from refstream.images import fit
from refstream.video import open_video

from ..clock import StreamClock
from .changes import Span, colour_cumulative, find_changes, find_motion, small_picture

SCAN_SIDE = 128
"""Longer side of the pictures in which changes are looked for."""
LAG_S = 0.5
"""How far back a frame is compared when changes are looked for."""
MOTION_GAP_S = 0.5
"""Longest pause within one stretch of motion."""
_EPSILON = 1e-6


@dataclass(frozen=True)
class WatchedVideo:
    """Frame k of T is the first native frame at or after k / fps; it stands for the time k / fps.

    Attributes:
        name: As it is written into the records.
        frames: (T, H, W, 3) uint8 RGB, on disk.
        times: (T,) float64, k / fps.
        fps: Frames per second that are kept.
        duration_s: Of the video: the last frame's time and its length.
        changes: When the picture changes.
        motions: When something moves.
    """

    name: str
    frames: np.ndarray
    times: np.ndarray
    fps: float
    duration_s: float
    changes: list[Span]
    motions: list[Span]

    def clip(self, start_s: float, end_s: float) -> tuple[np.ndarray, np.ndarray]:
        """The frames in [start_s, end_s), at least the last one before its end: (T, H, W, 3) and (T,)."""
        last = max(int(np.searchsorted(self.times, end_s - _EPSILON)), 1)
        first = min(int(np.searchsorted(self.times, start_s - _EPSILON)), last - 1)
        return np.asarray(self.frames[first:last]), self.times[first:last]

    def thinned(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """At most ``count`` frames spread evenly over the video, with the first and the last."""
        chosen = evenly(len(self.times), count)
        return np.asarray(self.frames[chosen]), self.times[chosen]


def evenly(length: int, count: int) -> np.ndarray:
    """At most ``count`` indices spread evenly over [0, length), with both ends: (count,) int64."""
    return np.unique(np.rint(np.linspace(0, length - 1, min(length, count))).astype(np.int64))


class _Ticker:
    """Says for which intervals of a clock a frame is the first one."""

    def __init__(self, fps: float) -> None:
        self.clock, self.next = StreamClock(fps), 0

    def due(self, time_s: float) -> int:
        """How many intervals the frame stands for: 0 for most, several after a gap in the video."""
        count = max(0, self.clock.interval_at(time_s) + 1 - self.next)
        self.next += count
        return count


@contextmanager
def watch(
    path: Path,
    name: str,
    *,
    fps: float = 1.0,
    scan_fps: float = 4.0,
    max_side: int | None = 448,
    folder_fps: float | None = None,
    change_threshold: float | None = None,
    motion_threshold: float | None = None,
) -> Iterator[WatchedVideo]:
    """Read a video once; its frames are kept in a temporary file while the context is open.

    Args:
        path: A video file or a folder of frames.
        name: As it is to be written into the records.
        fps: Frames per second to keep.
        scan_fps: Frames per second in which changes are looked for.
        max_side: Longest side of the frames kept; None keeps their size.
        folder_fps: Rate of a folder of frames; None is 24.
        change_threshold: Of ``changes.find_changes``.
        motion_threshold: Of ``changes.find_motion``.

    Raises:
        VideoError: If the video cannot be read to its end.
    """
    keep, scan = _Ticker(fps), _Ticker(scan_fps)
    cumulative: list[np.ndarray] = []
    small: list[np.ndarray] = []
    with tempfile.TemporaryFile() as file, open_video(path, max_side=max_side, fps=folder_fps) as source:
        last_s, size = 0.0, (source.height, source.width)
        for frame in source:
            last_s = frame.time_s
            for _ in range(keep.due(frame.time_s)):
                file.write(np.ascontiguousarray(frame.image).tobytes())
            if count := scan.due(frame.time_s):
                picture = fit(frame.image, SCAN_SIDE)
                cumulative += [colour_cumulative(picture)] * count
                small += [small_picture(picture)] * count
        if not cumulative:
            raise VideoError(path, "holds no frame")
        file.flush()
        scan_times = np.arange(len(cumulative)) / scan_fps
        yield WatchedVideo(
            name=name,
            frames=np.memmap(file, dtype=np.uint8, mode="r", shape=(keep.next, *size, 3)),
            times=np.arange(keep.next) / fps,
            fps=fps,
            duration_s=last_s + 1.0 / source.fps,
            changes=find_changes(
                np.stack(cumulative), scan_times, max(1, round(LAG_S * scan_fps)), change_threshold
            ),
            motions=find_motion(np.stack(small), scan_times, MOTION_GAP_S, motion_threshold),
        )
