"""The frames a model is shown with a question: sampled at a rate up to the question's time, never later."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refstream.errors import UserError, VideoError
from refstream.structures import Frame
from refstream.video import VideoSource, open_video

EPSILON_S = 1e-6
KEEP = ("uniform", "latest")


@dataclass(frozen=True)
class FrameSampling:
    """How frames are chosen.

    The times wanted are end, end - 1/fps, end - 2/fps, ... down to the start: the moment that is asked about
    is always among them. At each the frame shown at that time is taken, the last one that is not later.

    Attributes:
        fps: Frames per second.
        max_frames: Most frames; None for no limit.
        keep: What to do with more: "uniform" spreads ``max_frames`` times over the span, both ends included;
            "latest" keeps the last ones.
        max_side: Shrink frames whose longer side is larger; None: as they are.
    """

    fps: float = 1.0
    max_frames: int | None = None
    keep: str = "uniform"
    max_side: int | None = None

    def __post_init__(self) -> None:
        if not self.fps > 0 or (self.max_frames is not None and self.max_frames < 1):
            raise UserError(
                f"expected fps above 0 and max_frames of at least 1, got {self.fps} and {self.max_frames}"
            )
        if self.keep not in KEEP:
            raise UserError(f"keep must be one of {', '.join(KEEP)}, got {self.keep!r}")

    def times(self, start_s: float, end_s: float) -> list[float]:
        """The times wanted, increasing; the last is ``end_s``."""
        number = math.floor((end_s - start_s) * self.fps + EPSILON_S) + 1
        if self.max_frames is not None and number > self.max_frames:
            if self.keep == "uniform":
                spread = np.linspace(start_s, end_s, self.max_frames)
                return [float(t) for t in spread] if self.max_frames > 1 else [end_s]
            number = self.max_frames
        return [end_s - i / self.fps for i in reversed(range(number))]


def sample_frames(
    path: str | Path,
    start_s: float,
    end_s: float | None,
    sampling: FrameSampling,
    *,
    fps: float | None = None,
) -> list[Frame]:
    """Frames of a video between two times, by a ``FrameSampling``; a frame wanted twice comes once.

    Args:
        path: File or folder of frames.
        start_s: First time, and
        end_s: last, both in seconds; None or a time behind the end: the end of the video.
        sampling: Which frames.
        fps: Rate of a folder of frames.

    Raises:
        VideoError: If the video is missing, cannot be read, or has no frame there.
    """
    with open_video(path, max_side=sampling.max_side, fps=fps) as source:
        if source.is_live:
            raise VideoError(path, "is a live source; questions are asked about recorded videos")
        last_s = _last_time(source, end_s)
        end = last_s if end_s is None else min(end_s, last_s)
        if end < start_s:
            raise VideoError(path, f"ends at {end:.2f} s, before the question's first time {start_s:.2f} s")
        wanted = sampling.times(start_s, end)
        chosen: list[Frame] = []
        shown: Frame | None = None
        for frame in source:
            while wanted and frame.time_s > wanted[0] + EPSILON_S:
                wanted.pop(0)
                _choose(chosen, shown)
            if not wanted:
                break
            shown = frame
        if wanted:  # the video ended at the last time
            _choose(chosen, shown)
    return chosen


def _choose(chosen: list[Frame], frame: Frame | None) -> None:
    if frame is not None and (not chosen or chosen[-1].index != frame.index):
        chosen.append(frame)


def _last_time(source: VideoSource, end_s: float | None) -> float:
    """When the last frame is shown; decodes the video once if its header leaves that open."""
    if source.num_frames is not None:
        last = max(0, source.num_frames - 1) / source.fps
        if end_s is not None and end_s <= last - 1.0:  # the header's average rate may be off by some frames
            return last
    last = 0.0
    for frame in source:
        last = frame.time_s
        if end_s is not None and last >= end_s:
            return last
    return last
