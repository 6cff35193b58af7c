"""Video in: files, folders of frames, cameras and network streams become ``Frame``s.

The only module that decodes video (``video_writer`` encodes it, ``images`` reads pictures). Pictures come out
as (H, W, 3) uint8 RGB, upright (rotation metadata applied), at their own size unless ``max_side`` is given;
times come from the stream, counted from its first frame.
"""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import av
import av.container
import cv2
import numpy as np

from refstream.errors import VideoError
from refstream.images import IMAGE_SUFFIXES, MAX_PIXELS, fit, natural_key, read_image
from refstream.structures import Frame
from refstream.video_writer import VideoWriter, write_video

__all__ = [
    "ContainerSource",
    "FolderSource",
    "VideoSource",
    "VideoWriter",
    "open_video",
    "write_video",
]

DEFAULT_FPS = 24.0
"""Rate of a folder of frames (as DAVIS), and of a stream whose header names none."""
OPEN_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 10.0
LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "udp", "rtp", "srt"})
OnError = Literal["raise", "skip"]

log = logging.getLogger(__name__)


class VideoSource(ABC):
    """An iterable of ``Frame``; a file or folder can be iterated again, a live source once.

    Attributes:
        name: What a person would call it (the last part of its path or address).
        width, height: Size of the frames that come out, after rotation and ``max_side``.
        fps: Frames per second: the average of the header, ``DEFAULT_FPS`` if it has none.
        num_frames: As the header promises; None if unknown. What really comes may be less.
        is_live: Whether frames arrive in real time and without a known end.
        problems: What was skipped or mended, one line each (the first 100).
    """

    def __init__(self, address: str, name: str, *, max_side: int | None, on_error: OnError) -> None:
        if max_side is not None and max_side < 1:
            raise ValueError(f"max_side must be at least 1 pixel, got {max_side}")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
        self.address, self.name = address, name
        self.max_side, self.on_error = max_side, on_error
        self.width = self.height = 0
        self.fps = DEFAULT_FPS
        self.num_frames: int | None = None
        self.is_live = False
        self.problems: list[str] = []
        self._num_read = 0

    @abstractmethod
    def _decode(self) -> Iterator[tuple[float | None, np.ndarray]]:
        """Yield (seconds or None, (H, W, 3) uint8 RGB) from the start."""

    def close(self) -> None:
        """Free the device or connection; does nothing for files."""
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        self._num_read = 0
        self.problems.clear()
        start, last, resized = None, 0.0, False
        for time_s, image in self._decode():
            if time_s is None:
                time_s = last + 1 / self.fps if self._num_read else 0.0
            else:
                start = time_s if start is None else start
                time_s -= start
            last = max(last, time_s)
            image = fit(image, self.max_side)
            if image.shape[:2] != (self.height, self.width):
                if not resized:
                    size = f"{image.shape[1]}x{image.shape[0]}"
                    self._note(f"frame size changes to {size}; rescaled to {self.width}x{self.height}")
                    resized = True
                resized_image = cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_AREA)
                image = np.asarray(resized_image, dtype=np.uint8)
            frame = Frame(self._num_read, last, image)
            self._num_read += 1
            yield frame
        if self._num_read == 0:
            raise VideoError(self.address, "holds no frame that can be decoded")

    def _note(self, message: str) -> None:
        """Record and log something that was mended."""
        text = f"{self.address}, frame {self._num_read}: {message}"
        log.warning("%s", text)
        if len(self.problems) < 100:
            self.problems.append(text)

    def _fail(self, message: str, cause: Exception | None = None) -> None:
        """Raise, or record and go on, as ``on_error`` says."""
        if self.on_error == "raise":
            raise VideoError(self.address, message, self._num_read) from cause
        self._note(message)


class FolderSource(VideoSource):
    """Picture files of one folder, or one picture file, in natural order of their names; gaps are fine."""

    def __init__(
        self,
        path: Path,
        *,
        fps: float = DEFAULT_FPS,
        max_side: int | None = None,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__(str(path), path.name, max_side=max_side, on_error=on_error)
        if fps <= 0:
            raise ValueError(f"fps must be positive, got {fps}")
        listed = [path] if path.is_file() else path.iterdir()
        self.paths = sorted((p for p in listed if _is_image(p)), key=natural_key)
        if not self.paths:
            kinds = " ".join(sorted(IMAGE_SUFFIXES))
            raise VideoError(
                path, f"folder holds no picture files; expected frames named e.g. 00000.jpg ({kinds})"
            )
        self.fps = fps
        self.num_frames = len(self.paths)
        _, first = next(self._decode(), (None, None))
        if first is None:
            raise VideoError(path, "folder holds no picture that can be read")
        self.height, self.width = fit(first, max_side).shape[:2]

    def _decode(self) -> Iterator[tuple[float | None, np.ndarray]]:
        for number, path in enumerate(self.paths):
            try:
                image = read_image(path)
            except VideoError as error:
                self._fail(str(error), error)
                continue
            yield number / self.fps, image


class ContainerSource(VideoSource):
    """Anything that FFmpeg opens: a video file, an address, a camera."""

    def __init__(
        self,
        address: str,
        *,
        device_format: str | None = None,
        max_side: int | None = None,
        on_error: OnError = "raise",
    ) -> None:
        name = re.split(r"[/\\]", address.rstrip("/\\"))[-1] or address
        super().__init__(address, name, max_side=max_side, on_error=on_error)
        self._device_format = device_format
        scheme = address.split("://")[0].lower() if "://" in address else ""
        self._remote = bool(scheme) or device_format is not None
        self._container: av.container.InputContainer | None = self._open()
        stream = self._container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        self.fps = float(rate) if rate else DEFAULT_FPS
        self.num_frames = stream.frames or None
        unbounded = self._remote and self._container.duration is None
        self.is_live = device_format is not None or scheme in LIVE_SCHEMES or unbounded
        self._pending = self._decode_container(self._container)
        first = next(self._pending, None)
        if first is None:
            raise VideoError(address, "holds no frame that can be decoded")
        self._first: tuple[float | None, np.ndarray] | None = first
        self.height, self.width = fit(first[1], max_side).shape[:2]

    def _open(self) -> av.container.InputContainer:
        options = {"max_pixels": str(MAX_PIXELS)}
        if self.address.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"
        timeout = (OPEN_TIMEOUT_S, READ_TIMEOUT_S) if self._remote else None
        try:
            container = av.open(
                self.address,
                mode="r",
                format=self._device_format,
                options=options,
                timeout=timeout,
                metadata_errors="replace",
            )
        except av.FFmpegError as error:
            raise VideoError(self.address, f"cannot be opened as a video ({error.strerror})") from error
        if not container.streams.video or container.format.name == "tty":
            container.close()
            raise VideoError(
                self.address, "holds no video stream; expected a video such as mp4, mov, mkv, webm"
            )
        context = container.streams.video[0].codec_context
        if context is None:
            container.close()
            raise VideoError(self.address, "the video is in a format that cannot be decoded here")
        if context.width * context.height > MAX_PIXELS:
            container.close()
            size = f"{context.width}x{context.height}"
            raise VideoError(self.address, f"video of {size} pixels; at most {MAX_PIXELS} are accepted")
        return container

    def _decode(self) -> Iterator[tuple[float | None, np.ndarray]]:
        """The first pass goes on from the frame read when opening; later ones open the file again."""
        if self._first is not None:
            first, self._first = self._first, None
            yield first
            yield from self._pending
            return
        if self.is_live:
            raise VideoError(self.address, "a live source can be read only once; open it again")
        self._container = self._open()
        yield from self._decode_container(self._container)

    def _decode_container(
        self, container: av.container.InputContainer
    ) -> Iterator[tuple[float | None, np.ndarray]]:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        truncated = _is_truncated(container, stream)
        try:
            for packet, error in _packets(container, stream):
                frames, error = ([], error) if error or packet is None else _decode_packet(packet)
                for frame in frames:
                    yield self._convert(frame)
                if error is None:
                    continue
                if self.on_error == "raise":
                    for frame in _decode_packet(stream.codec_context)[0]:  # drain what was read before
                        yield self._convert(frame)
                self._fail(f"corrupt data ({error})")
            if truncated:
                self._fail("the file is truncated: it is shorter than its index says")
        finally:
            container.close()

    def _convert(self, frame: av.VideoFrame) -> tuple[float | None, np.ndarray]:
        if frame.width * frame.height > MAX_PIXELS:
            size = f"{frame.width}x{frame.height}"
            raise VideoError(self.address, f"frame of {size} pixels; at most {MAX_PIXELS}", self._num_read)
        image = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
        if frame.rotation:
            image = np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
        return frame.time, image

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None


def _packets(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[tuple[av.Packet | None, str | None]]:
    """Packets of a stream, then the error that ended them if there was one."""
    demuxer = container.demux(stream)
    while True:
        try:
            packet = next(demuxer)
        except StopIteration:
            return
        except av.FFmpegError as error:
            yield None, str(error.strerror)
            return
        yield (packet, "incomplete packet") if packet.is_corrupt else (packet, None)


def _decode_packet(source: Any) -> tuple[list[av.VideoFrame], str | None]:
    """Decode a packet, or drain a codec context; damaged frames are left out and named as the error."""
    try:
        frames = source.decode()
    except av.EOFError:
        return [], None
    except av.FFmpegError as error:
        return [], str(error.strerror)
    good = [frame for frame in frames if not frame.is_corrupt]
    return good, None if len(good) == len(frames) else "damaged picture"


def _is_truncated(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Whether the index (mp4, mov) points beyond the end of the file."""
    size = container.size
    if size <= 0:
        return False
    entries = stream.index_entries
    return any(entry.pos + entry.size > size for entry in entries)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _camera(index: int) -> tuple[str, str]:
    """(address, FFmpeg device format) of camera number ``index`` on this platform."""
    for device_format, address in (("v4l2", f"/dev/video{index}"), ("avfoundation", str(index))):
        if any(device_format in names.split(",") for names in av.formats_available):
            return address, device_format
    raise VideoError(f"camera {index}", "this build of FFmpeg reads no cameras; give a file or an address")


def open_video(
    source: str | int | Path,
    *,
    max_side: int | None = None,
    on_error: OnError = "raise",
    fps: float | None = None,
) -> VideoSource:
    """Open a video file, a folder of frames, a picture, a camera or a network stream.

    Args:
        source: Path, camera number (``0`` or ``"0"``), or address (``rtsp://...``, ``http://...``).
        max_side: Shrink frames whose longer side is larger.
        on_error: ``"raise"`` yields the good frames, then raises ``VideoError`` naming source and frame;
            ``"skip"`` leaves damaged frames out with a warning (see ``VideoSource.problems``).
        fps: Rate of a folder of frames, default ``DEFAULT_FPS``; refused for anything that has its own.

    Raises:
        VideoError: not there, not a video, no frame in it, too large.
    """
    text = str(source)
    path = Path(text)
    if path.is_dir() or (path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()):
        return FolderSource(path, fps=fps or DEFAULT_FPS, max_side=max_side, on_error=on_error)
    if fps is not None:
        raise ValueError(f"fps can be set for a folder of frames only; {text} has its own times")
    if text.isdigit() and not path.exists():
        address, device_format = _camera(int(text))
        return ContainerSource(address, device_format=device_format, max_side=max_side, on_error=on_error)
    if "://" not in text:
        if not path.exists():
            raise VideoError(
                text, "no such file or folder; expected a video, a folder of frames, or an address"
            )
        if path.stat().st_size == 0:
            raise VideoError(text, "the file is empty")
    return ContainerSource(text, max_side=max_side, on_error=on_error)
