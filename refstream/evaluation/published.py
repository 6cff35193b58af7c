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


def published_tables(
    benchmark: str, split: str | None = None, protocol: str | None = None
) -> tuple[Table, Table] | None:
    """Two tables for ``rich`` whose every row is marked "published": one with a column per metric, and a
    narrow one with all figures of a row in one cell. None if nothing is known."""
    rows = published(benchmark, split, protocol)
    if not rows:
        return None
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.values))
    wide, narrow = _empty(benchmark, split, rows), _empty(benchmark, split, rows)
    for metric in metrics:
        wide.add_column(metric, justify="right", no_wrap=True)
    narrow.add_column("figures")
    for row, name in zip(rows, _names(rows), strict=True):
        mark = " ?" if row.doubtful else ""
        texts = {metric: f"{value:.1f}{mark}" for metric, value in row.values.items()}
        wide.add_row("published", name, row.protocol, *(texts.get(metric, "-") for metric in metrics))
        figures = ", ".join(f"{metric} {text}" for metric, text in texts.items())
        narrow.add_row("published", name, row.protocol, figures)
    return wide, narrow


def _empty(benchmark: str, split: str | None, rows: list[PublishedRow]) -> Table:
    """The head and the foot."""
    doubt = "? marks figures whose split, protocol or metric the source leaves in doubt."
    sources = (f"({number}) {source}" for number, source in enumerate(_sources(rows), start=1))
    table = Table(
        title=f"PUBLISHED, not measured here: {benchmark} {split or ''}".rstrip(),
        caption="\n".join([doubt, *sources]),
        caption_justify="left",
        style="dim",
    )
    for name in ("", "method", "protocol"):
        table.add_column(name)
    return table


def _names(rows: list[PublishedRow]) -> list[str]:
    """The methods, with the backbone where one occurs with several, and the number of the source."""
    backbones: dict[str, set[str]] = {}
    for row in rows:
        backbones.setdefault(row.method, set()).add(row.backbone)
    sources = _sources(rows)
    names = []
    for row in rows:
        several = len(backbones[row.method]) > 1 and row.backbone
        backbone = f", {row.backbone}" if several else ""
        names.append(f"{row.method}{backbone} ({sources.index(row.source) + 1})")
    return names


def _sources(rows: list[PublishedRow]) -> list[str]:
    return list(dict.fromkeys(row.source for row in rows))
