"""The frames of a dialogue: how long a video is, and the picture of each interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from refstream.errors import VideoError
from refstream.images import fit, read_image
from refstream.video import FolderSource, OnError, VideoSource, open_video

from .clock import TOLERANCE_S, StreamClock

Check = Literal["header", "decode"]


@dataclass(frozen=True)
class VideoLength:
    """How long a video is.

    Attributes:
        last_s: When its last frame is shown, in seconds from the first.
        duration_s: When that frame is over.
        num_frames: How many there are.
    """

    last_s: float
    duration_s: float
    num_frames: int

    def num_turns(self, clock: StreamClock) -> int:
        """How many intervals of a clock begin at or before the last frame: those that have a picture."""
        return clock.interval_at(self.last_s) + 1

    def for_turns(self, clock: StreamClock) -> float:
        """A length in seconds of which ``clock.intervals`` is ``num_turns``: at most ``duration_s``."""
        return min(self.duration_s, self.num_turns(clock) / clock.fps)


def open_turns(path: Path, max_side: int | None, frames_fps: float | None, on_error: OnError) -> VideoSource:
    """``open_video``; ``frames_fps`` is the rate of a folder of frames and not used for other videos."""
    return open_video(path, max_side=max_side, on_error=on_error, fps=frames_fps if path.is_dir() else None)


def measure_video(
    path: Path, *, check: Check = "header", frames_fps: float | None = None, on_error: OnError = "raise"
) -> VideoLength:
    """The length of a video.

    Args:
        path: A file or a folder of frames.
        check: "header" believes the header's number of frames and average rate, and decodes one frame;
            "decode" decodes all, so that a damaged one is found, as it also does if the header has no number.
        frames_fps: Rate of a folder of frames.
        on_error: As in ``open_video``.

    Raises:
        VideoError: If it is missing, is no video, or cannot be decoded.
    """
    with open_turns(path, None, frames_fps, on_error) as source:
        if check == "header" and source.num_frames:
            step = 1 / source.fps
            return VideoLength((source.num_frames - 1) * step, source.num_frames * step, source.num_frames)
        last, count = 0.0, 0
        for frame in source:
            last, count = frame.time_s, count + 1
        return VideoLength(last, last + 1 / source.fps, count)


def read_turn_frames(
    path: Path,
    starts_s: Sequence[float],
    *,
    max_side: int | None = None,
    frames_fps: float | None = None,
    on_error: OnError = "raise",
) -> np.ndarray:
    """The first frame at or after each time, (T, H, W, 3) uint8 RGB.

    Files are decoded from their start up to the last frame that is needed; of a folder only the pictures that
    are needed are read. If the video is over before the last time, and after the one before, its last frame
    stands in for the missing one: that is what rounded headers bring about.

    Args:
        path: A file or a folder of frames.
        starts_s: T times in seconds, not decreasing, at least one.
        max_side: Shrink frames whose longer side is larger.
        frames_fps: Rate of a folder of frames.
        on_error: As in ``open_video``.

    Raises:
        VideoError: If it cannot be read, or two times or more come after its last frame.
    """
    if not starts_s:
        raise ValueError("no times are given")
    with open_turns(path, max_side, frames_fps, on_error) as source:
        if isinstance(source, FolderSource):
            frames, last = _of_folder(source, starts_s)
        else:
            frames, last = _of_stream(source, starts_s)
    missing = len(starts_s) - len(frames)
    if missing > 1 or (missing and last is None):
        raise VideoError(
            path,
            f"is over before {starts_s[len(frames)]:g} s, and frames up to {starts_s[-1]:g} s are needed; "
            "correct the annotation, or let every video be decoded first (check='decode')",
        )
    if missing and last is not None:
        frames.append(last)
    return np.stack(frames)


def _of_stream(source: VideoSource, starts: Sequence[float]) -> tuple[list[np.ndarray], np.ndarray | None]:
    """The frames found, and the last one that was decoded."""
    frames: list[np.ndarray] = []
    image = None
    for frame in source:
        image = frame.image
        while len(frames) < len(starts) and frame.time_s >= starts[len(frames)] - TOLERANCE_S:
            frames.append(image)
        if len(frames) == len(starts):
            break
    return frames, image


def _of_folder(source: FolderSource, starts: Sequence[float]) -> tuple[list[np.ndarray], np.ndarray | None]:
    """The pictures that are needed, and the last one if there are too few."""
    times = [number / source.fps for number in range(len(source.paths))]
    chosen = [i for i in np.searchsorted(times, np.asarray(starts) - TOLERANCE_S).tolist() if i < len(times)]
    last = [len(times) - 1] if len(chosen) < len(starts) else []
    images = {}
    for index in dict.fromkeys([*chosen, *last]):
        image = fit(read_image(source.paths[index]), source.max_side)
        if image.shape[:2] != (source.height, source.width):
            raise VideoError(
                source.paths[index],
                f"is of size {image.shape[:2]}, the first picture of {source.height, source.width}",
            )
        images[index] = image
    return [images[i] for i in chosen], images[last[0]] if last else None
