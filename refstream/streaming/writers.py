"""Results on disk: masks, events, an overlay video, a contact sheet, a summary.

Every file is valid at every moment: whole files appear by renaming, the event log grows by whole lines, and
the video is finished even when the run is interrupted. A full disk is an ``OutputError``; older data stay.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np

from refstream.data import rle
from refstream.files import output_error, write_png
from refstream.streaming.overlay import ContactSheet, OverlayCanvas
from refstream.structures import Frame, StreamEvent
from refstream.video import VideoWriter


def folder_name(query_id: str) -> str:
    """A query id as a folder name: letters, digits, ``_ . -``, not empty, not hidden, at most 80 long."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", query_id)[:80].lstrip(".") or "_"


class MaskPngWriter:
    """One folder per query, one PNG per frame: ``<folder>/<query>/00000.png`` with values 0 and 255.

    Args:
        folder: Made if missing.

    Raises:
        ValueError: two query ids share a folder name.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._owner: dict[str, str] = {}

    def write(self, events: Sequence[StreamEvent]) -> None:
        """Write the masks of some events; text events have none and are passed over."""
        for event in events:
            if event.mask is None:
                continue
            name = folder_name(event.query_id)
            if self._owner.setdefault(name, event.query_id) != event.query_id:
                raise ValueError(
                    f"queries {self._owner[name]!r} and {event.query_id!r} would share folder {name!r}"
                )
            path = self.folder / name / f"{event.frame_index:05d}.png"
            write_png(path, event.mask.astype(np.uint8) * 255, durable=False)


def event_record(event: StreamEvent, *, with_mask: bool = True) -> dict[str, Any]:
    """An event as data fit for JSON: the mask as area and (optionally) COCO RLE, NaN as None."""
    record: dict[str, Any] = {
        "query_id": event.query_id,
        "frame_index": event.frame_index,
        "time_s": event.time_s,
        "text": event.text,
        "pred_iou": event.pred_iou,
        "consistency": event.consistency,
        "object_score": event.object_score,
        "invoked_mllm": event.invoked_mllm,
        "reason": event.reason,
        "latency_ms": event.latency_ms,
        "mask_area": None if event.mask is None else int(event.mask.sum()),
    }
    if with_mask and event.mask is not None:
        record["mask"] = rle.encode(event.mask.astype(bool))
    if event.extra:
        record["extra"] = event.extra
    return {key: _plain(value) for key, value in record.items()}


class EventJsonlWriter:
    """One line of JSON per event, on disk as soon as it is written; a context manager.

    Args:
        path: Replaced if it exists.
        with_masks: Add masks as COCO RLE.
    """

    def __init__(self, path: str | Path, *, with_masks: bool = True) -> None:
        self.path = Path(path)
        self.with_masks = with_masks
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115 (closed in close)
        except OSError as error:
            raise output_error(self.path, error) from error

    def write(self, events: Sequence[StreamEvent]) -> None:
        """Append whole lines; if that fails the file is cut back to its last whole line.

        Raises:
            OutputError: disk full and the like.
        """
        for event in events:
            record = event_record(event, with_mask=self.with_masks)
            line = (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
            start = self._file.tell()
            try:
                _write_all(self._file, line)
            except BaseException as error:
                with suppress(OSError):
                    self._file.seek(start)
                    self._file.truncate(start)
                if isinstance(error, OSError):
                    raise output_error(self.path, error) from error
                raise

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OverlayVideoWriter:
    """The stream with its masks and captions as mp4, and a contact sheet beside it; a context manager.

    Args:
        path: Ends in .mp4.
        fps: Nominal rate; the frames keep their own times.
        expressions: Query id -> expression.
        sheet: Where to write the contact sheet on closing, or None.
    """

    def __init__(
        self, path: str | Path, fps: float, expressions: Mapping[str, str], *, sheet: str | Path | None = None
    ) -> None:
        self._canvas = OverlayCanvas(expressions)
        self._video = VideoWriter(path, fps, crf=20)
        self._sheet_path = None if sheet is None else Path(sheet)
        self._sheet = ContactSheet()
        self._num_drawn = 0
        self._closed = False

    def write(self, frame: Frame, events: Sequence[StreamEvent]) -> None:
        """Draw one frame with its events (those of other frames are ignored)."""
        picture = self._canvas.draw(frame, [e for e in events if e.frame_index == frame.index])
        self._video.write(picture, frame.time_s)
        self._sheet.add(picture)
        self._num_drawn += 1

    def close(self) -> None:
        """Finish the video and write the contact sheet; may be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self._video.close()
        finally:
            if self._sheet_path is not None and self._num_drawn:
                write_png(self._sheet_path, self._sheet.render())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _write_all(file: io.FileIO, data: bytes) -> None:
    """Unbuffered writes may be short; go on until all is out."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _plain(value: Any) -> Any:
    """JSON-serialisable twin: numpy scalars become Python's, NaN and infinity None."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
