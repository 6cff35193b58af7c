"""Figures of papers, each with its source, to set beside our own. They are never mixed with measured rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rich.table import Table

DATA = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class PublishedRow:
    """What one paper says of one method on one benchmark.

    Attributes:
        benchmark: As in the table of benchmarks.
        split: Official name of the split.
        protocol: The one of ours that the figures are comparable with.
        method: As the paper calls it.
        backbone: Language model, segmenter, ...; "" if the source does not say.
        values: Metric -> figure in percent, named as in our summaries; a group's metric is "group metric".
        source: Paper and table, or address.
        note: What to know before comparing.
        doubtful: Whether the source is second-hand or unclear about split, protocol or metric.
    """

    benchmark: str
    split: str
    protocol: str
    method: str
    backbone: str
    values: dict[str, float]
    source: str
    note: str = ""
    doubtful: bool = False


@cache
def all_published() -> tuple[PublishedRow, ...]:
    """Every row of the data file.

    A row of the file names its source by a key of "sources", and may add the place within it.
    """
    content = json.loads(DATA.read_text(encoding="utf-8"))
    return tuple(
        PublishedRow(
            benchmark=row["benchmark"],
            split=row["split"],
            protocol=row["protocol"],
            method=row["method"],
            backbone=row.get("backbone", ""),
            values={name: float(value) for name, value in row["values"].items()},
            source=", ".join(filter(None, [content["sources"][row["source"]], row.get("place", "")])),
            note=row.get("note", ""),
            doubtful=row.get("doubtful", False),
        )
        for row in content["rows"]
    )


def published(benchmark: str, split: str | None = None, protocol: str | None = None) -> list[PublishedRow]:
    """The papers' rows of a benchmark, of one split and protocol or of all; empty if none is known."""
    return [
        row
        for row in all_published()
        if row.benchmark == benchmark and split in (None, row.split) and protocol in (None, row.protocol)
    ]


def published_table(benchmark: str, split: str | None = None, protocol: str | None = None) -> Table | None:
    """A table for ``rich`` whose every row is marked "published"; None if nothing is known."""
    rows = published(benchmark, split, protocol)
    if not rows:
        return None
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.values))
    table = Table(
        title=f"PUBLISHED, not measured here: {benchmark} {split or ''}".rstrip(),
        caption="? marks figures whose split, protocol or metric the source leaves in doubt.\n"
        + _sources(rows),
        caption_justify="left",
        style="dim",
    )
    for name in ("", "method", "protocol"):
        table.add_column(name)
    for metric in metrics:
        table.add_column(metric, justify="right")
    for row in rows:
        values = (row.values.get(metric) for metric in metrics)
        mark = " ?" if row.doubtful else ""
        cells = ("-" if value is None else f"{value:.1f}{mark}" for value in values)
        table.add_row("published", row.method, row.protocol, *cells)
    return table


def _sources(rows: list[PublishedRow]) -> str:
    by_source: dict[str, list[str]] = {}
    for row in rows:
        by_source.setdefault(row.source, []).append(row.method)
    return "\n".join(f"{', '.join(methods)}: {source}" for source, methods in by_source.items())
