"""The folder of results that ``segment`` and ``demo`` write."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from rich.table import Table

from refstream.files import write_json
from refstream.streaming.writers import EventJsonlWriter, MaskPngWriter, OverlayVideoWriter
from refstream.structures import Frame, StreamEvent

EVENTS, MASKS, OVERLAY = "events.jsonl", "masks", "overlay.mp4"
SHEET, SUMMARY = "contact_sheet.png", "summary.json"


class ResultFolder:
    """All writers of one run; leaves valid files however the run ends. A context manager.

    Args:
        folder: Results of an earlier run there are removed; other files stay.
        fps: Of the overlay video.
        expressions: Query id -> expression.
        causal: Whether the events of a frame come with it. If not, frames are kept until theirs come.
    """

    def __init__(self, folder: Path, fps: float, expressions: Mapping[str, str], *, causal: bool) -> None:
        self.folder = folder
        remove_results(folder)
        self._stack = ExitStack()
        overlay = OverlayVideoWriter(folder / OVERLAY, fps, expressions, sheet=folder / SHEET)
        self._overlay = self._stack.enter_context(overlay)
        self._events = self._stack.enter_context(EventJsonlWriter(folder / EVENTS))
        self._masks = MaskPngWriter(folder / MASKS)
        self._waiting: list[Frame] | None = None if causal else []

    def write(self, frame: Frame, events: Sequence[StreamEvent]) -> None:
        """Write what came of one frame."""
        self._events.write(events)
        self._masks.write(events)
        if self._waiting is None:
            self._overlay.write(frame, events)
        else:
            self._waiting.append(frame)

    def write_late(self, events: Sequence[StreamEvent]) -> None:
        """Write the events that came after the last frame, and draw the frames that waited for them."""
        self._events.write(events)
        self._masks.write(events)
        for frame in self._waiting or ():
            self._overlay.write(frame, events)
        if self._waiting is not None:
            self._waiting.clear()

    def summarize(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json."""
        write_json(self.folder / SUMMARY, dict(summary))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


def remove_results(folder: Path) -> None:
    """Remove what an earlier run wrote, and nothing else."""
    for name in (EVENTS, OVERLAY, SHEET, SUMMARY):
        (folder / name).unlink(missing_ok=True)
    for query in (folder / MASKS).glob("*/"):
        for path in query.iterdir():
            if re.fullmatch(r"\d{5,}\.png", path.name):
                path.unlink()
        if not any(query.iterdir()):
            query.rmdir()


def summary_table(summary: Mapping[str, Any]) -> Table:
    """The figures of summary.json that a person looks for first."""
    table = Table(title=str(summary["video"]["name"]), show_header=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    rows = (
        ("frames", "frames", "{}"),
        ("J&F", "j_and_f", "{:.1f}"),
        ("FPS (model)", "fps", "{:.3g}"),
        ("FPS (with reading and writing)", "fps_end_to_end", "{:.3g}"),
        ("MLLM calls per frame", "mllm_calls_per_frame", "{:.2f}"),
        ("latency p50", "latency_ms_p50", "{:.1f} ms"),
        ("latency p95", "latency_ms_p95", "{:.1f} ms"),
        ("peak memory", "peak_memory_mb", "{:.0f} MB"),
        ("peak GPU memory", "peak_gpu_memory_mb", "{:.0f} MB"),
    )
    for label, key, form in rows:
        if summary.get(key) is not None:
            table.add_row(label, form.format(summary[key]))
    for query in summary["queries"]:
        score = "" if query["j_and_f"] is None else f"  J&F {query['j_and_f']:.1f}"
        table.add_row(f"[{query['id']}]".replace("[", r"\["), f"{query['expression'][:60]}{score}")
    return table
