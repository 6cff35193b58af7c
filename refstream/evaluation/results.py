"""What an evaluation found: written as JSON and CSV in one piece, shown as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from refstream.errors import UserError
from refstream.evaluation.ledger import Ledger
from refstream.evaluation.protocols.base import OVERALL, ItemScore, Summary
from refstream.evaluation.provenance import provenance
from refstream.files import atomic_write_text, write_json

LEARNED_MARGIN = 20.0  # points above shuffled expressions, from which on a group counts as learned


@dataclass(frozen=True)
class Speed:
    """What the model's run cost.

    Attributes:
        fps: Frames of a stream per second, all its expressions together.
        mllm_calls_per_frame: Per expression, in [0, 1].
        latency_ms_p50: Median time of a frame.
        latency_ms_p95: 95th percentile of it.
        first_mask_ms_p50: Median time until a stream's first mask.
        expressions_per_stream: Mean number of expressions that shared a stream.
    """

    fps: float
    mllm_calls_per_frame: float
    latency_ms_p50: float
    latency_ms_p95: float
    first_mask_ms_p50: float
    expressions_per_stream: float

    @classmethod
    def of(cls, costs: Ledger) -> Speed | None:
        """From the costs of a run; None if there are none."""
        records = [record for name in sorted(costs.done()) if (record := costs.read(name)) is not None]
        if not records:
            return None
        latencies = [value for record in records for value in record["latencies_ms"]]
        first = [record["first_mask_ms"] for record in records if record["first_mask_ms"] is not None]
        frames, events, calls, seconds = (
            sum(record[key] for record in records)
            for key in ("num_frames", "num_events", "num_calls", "seconds")
        )
        p50, p95 = np.percentile(latencies, [50, 95]) if latencies else (0.0, 0.0)
        return cls(
            fps=frames / seconds if seconds else 0.0,
            mllm_calls_per_frame=calls / max(1, events),
            latency_ms_p50=float(p50),
            latency_ms_p95=float(p95),
            first_mask_ms_p50=float(np.median(first)) if first else 0.0,
            expressions_per_stream=events / max(1, frames),
        )


@dataclass(frozen=True)
class EvalResult:
    """The outcome of one evaluation.

    Attributes:
        benchmark: Its name in the table of benchmarks.
        split: Of the benchmark.
        protocol: Name of the protocol.
        headline: The protocol's first metric.
        subject: The model, or the predictions, as the caller named them.
        settings: The benchmark's.
        summary: The figures: group -> metric -> value, "overall" first.
        items: One score per expression (or object).
        expected: Numbers of videos and expressions that the protocol wants.
        compat: The public code whose defects are reproduced, if any.
        floors: Figures of what needs no understanding, by name; empty if they were not measured.
        ceilings: Figures of what perfect referring could reach, by name.
        speed: The model's; None for predictions.
        stability: Of the masks over time; None if it was not measured.
    """

    benchmark: str
    split: str
    protocol: str
    headline: str
    subject: str
    settings: Mapping[str, Any]
    summary: Summary
    items: Sequence[ItemScore]
    expected: Mapping[str, int]
    compat: str | None = None
    floors: Mapping[str, Summary] = field(default_factory=dict)
    ceilings: Mapping[str, Summary] = field(default_factory=dict)
    speed: Speed | None = None
    stability: Mapping[str, float] | None = None

    def value(self, metric: str | None = None, group: str = OVERALL) -> float:
        """One figure; by default the headline.

        Raises:
            UserError: If the protocol cannot tell it from these data.
        """
        figures = self.summary.get(group, {})
        metric = metric or self.headline
        if metric not in figures:
            raise UserError(
                f"{self.benchmark} {self.split}, {self.protocol}: {metric} of {group} is not defined for "
                f"these data; there are {', '.join(figures) or 'no figures'}"
            )
        return figures[metric]

    @property
    def missing(self) -> list[dict[str, Any]]:
        """Expressions of which frames had no prediction, with the names of these frames."""
        return [
            {"video": item.video, "id": item.id, "frames": list(item.missing)}
            for item in self.items
            if item.missing
        ]

    def learned(self) -> dict[str, bool]:
        """By group, whether the headline is 20 points above shuffled expressions; empty without them."""
        shuffled = self.floors.get("shuffled")
        if shuffled is None:
            return {}
        return {
            group: values[self.headline] >= shuffled[group][self.headline] + LEARNED_MARGIN
            for group, values in self.summary.items()
            if group != OVERALL and self.headline in values and self.headline in shuffled.get(group, {})
        }

    def runs(self) -> list[tuple[str, Summary]]:
        """The model, its floors and its ceilings, by name."""
        return [("model", self.summary), *self.floors.items(), *self.ceilings.items()]

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per run: the metrics of "overall", then the headline of the other groups."""
        rows = []
        for name, summary in self.runs():
            overall = {k: v for k, v in summary[OVERALL].items() if k != "expressions"}
            groups = {
                group: values.get(self.headline) for group, values in summary.items() if group != OVERALL
            }
            rows.append({"run": name, **overall, **groups})
        return rows

    def to_dict(self) -> dict[str, Any]:
        """All but the items, JSON-serialisable, with where it comes from. The same for every run of the same
        thing: what differs from run to run is in ``speed_dict``."""
        seed = self.settings.get("seed")
        return {
            **provenance([] if seed is None else [seed]),
            "rows": self.rows(),
            "benchmark": self.benchmark,
            "split": self.split,
            "protocol": self.protocol,
            "compat": self.compat,
            "model": self.subject,
            "settings": dict(self.settings),
            "headline": {self.headline: self.summary[OVERALL].get(self.headline)},
            "summary": self.summary,
            "expected": dict(self.expected),
            "missing": self.missing,
            "floors": dict(self.floors),
            "ceilings": dict(self.ceilings),
            "stability": None if self.stability is None else dict(self.stability),
            "learned": self.learned(),
        }

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, with the speed; an interrupted write leaves the old file as it was."""
        write_json(path, {**self.to_dict(), "speed": None if self.speed is None else asdict(self.speed)})
        return Path(path)

    def save_csv(self, path: str | Path) -> Path:
        """Write one line per item: video, id, group, text, metrics, number of missing frames."""
        metrics = list(dict.fromkeys(metric for item in self.items for metric in item.values))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["video", "id", "group", "text", *metrics, "missing_frames"])
        for item in self.items:
            values = [item.values.get(metric, "") for metric in metrics]
            writer.writerow([item.video, item.id, item.group, item.text, *values, len(item.missing)])
        atomic_write_text(path, text.getvalue())
        return Path(path)

    def table(self, *, by_metric: bool = False) -> Table:
        """A table for ``rich``: one row per run; ``by_metric``: one column per run, which is narrower."""
        of = f"{self.benchmark} {self.split}, {self.protocol}" + (f" ({self.compat})" if self.compat else "")
        counts = ", ".join(f"{count} {what}" for what, count in self.expected.items())
        table = Table(title=f"{of}: {self.subject or 'the model'} on {counts}", caption=self._caption())
        rows = self.rows()
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines = [columns]
        for row in rows:
            cells = (row.get(column) for column in columns[1:])
            lines.append([str(row["run"]), *("-" if cell is None else f"{cell:.1f}" for cell in cells)])
        if by_metric:
            lines = [["metric", *lines[0][1:]], *lines[1:]]
            lines = [list(line) for line in zip(*lines, strict=True)]
        for number, name in enumerate(lines[0]):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for line in lines[1:]:
            table.add_row(*line)
        return table

    def _caption(self) -> str:
        notes = []
        if self.speed is not None:
            notes.append(
                f"{self.speed.fps:.1f} FPS with {self.speed.expressions_per_stream:.1f} expressions a "
                f"stream, {self.speed.mllm_calls_per_frame:.2f} MLLM calls a frame, latency "
                f"{self.speed.latency_ms_p50:.0f} ms (p50), {self.speed.latency_ms_p95:.0f} ms (p95), first "
                f"mask after {self.speed.first_mask_ms_p50:.0f} ms"
            )
        if self.missing:
            frames = sum(len(one["frames"]) for one in self.missing)
            notes.append(
                f"{len(self.missing)} items lack {frames} predicted frames, scored as the protocol says"
            )
        return "\n".join(notes)
