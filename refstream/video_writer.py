"""Video out: H.264 mp4 files that stay playable when the writing process dies."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import av.container
import numpy as np

from refstream.errors import OutputError

_TICKS = 90_000
"""Time base of the files, in ticks per second: any frame rate and variable rates fit."""


class VideoWriter:
    """Write (H, W, 3) uint8 RGB frames to an H.264 mp4 (yuv420p); a context manager.

    Frames go to ``<name>.part.mp4`` in fragments, playable up to the last one if the process dies; ``close``
    makes it a plain mp4 and renames it, also after an exception in the ``with`` block. Odd sizes are padded
    by repeating the last row or column. All frames must have the size of the first.

    Args:
        path: Ends in .mp4; parents are made.
        fps: Nominal rate, used for frames without a time.
        crf: H.264 quality: 0 lossless, 18 visually lossless, 23 smaller.
    """

    def __init__(self, path: str | Path, fps: float, *, crf: int = 18) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4":
            raise ValueError(f"video output must end in .mp4, got {self.path}")
        if not 0 < fps <= 1000:
            raise ValueError(f"fps must lie in (0, 1000], got {fps}")
        self.fps, self.crf = fps, crf
        self.num_frames = 0
        self._part = self.path.with_suffix(".part.mp4")
        self._container: av.container.OutputContainer | None = None
        self._stream: av.VideoStream | None = None
        self._size: tuple[int, ...] = ()
        self._last_pts = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, image: np.ndarray, time_s: float | None = None) -> None:
        """Add one frame, shown from ``time_s`` on (default: count / fps); times must not decrease."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"expected an (H, W, 3) uint8 image, got {image.shape} {image.dtype}")
        try:
            if self._stream is None:
                self._start(image)
            if image.shape != self._size:
                raise ValueError(
                    f"all frames must have the shape {self._size} of the first, got {image.shape}"
                )
            padded = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
            seconds = self.num_frames / self.fps if time_s is None else time_s
            self._last_pts = max(self._last_pts + 1, round(seconds * _TICKS))
            frame.pts, frame.time_base = self._last_pts, Fraction(1, _TICKS)
            self._mux(frame)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(self.path, f"cannot write the video ({error})") from error
        self.num_frames += 1

    def _start(self, image: np.ndarray) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = {"movflags": "hybrid_fragmented", "frag_duration": "1000000", "flush_packets": "1"}
        self._container = av.open(str(self._part), mode="w", format="mp4", options=flags)
        rate = Fraction(self.fps).limit_denominator(1001)
        options = {"crf": str(self.crf), "preset": "veryfast"}
        self._stream = self._container.add_stream("libx264", rate=rate, options=options)
        self._size = image.shape
        self._stream.height, self._stream.width = (side + side % 2 for side in image.shape[:2])
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        assert self._container is not None
        assert self._stream is not None
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file; without any frame nothing is written. May be called twice."""
        if self._container is None:
            return
        container = self._container
        try:
            self._mux(None)
            container.close()
            self._part.replace(self.path)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(self.path, f"cannot finish the video ({error})") from error
        finally:
            self._container = self._stream = None


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float, *, crf: int = 18) -> Path:
    """Write (H, W, 3) uint8 RGB frames as an H.264 mp4 at a constant rate; see ``VideoWriter``.

    Raises:
        ValueError: no frames, or sizes that differ.
        OutputError: the file cannot be written.
    """
    with VideoWriter(path, fps, crf=crf) as writer:
        for image in frames:
            writer.write(image)
    if writer.num_frames == 0:
        raise ValueError(f"cannot write {path}: no frames were given")
    return writer.path
