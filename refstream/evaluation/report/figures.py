"""From an evaluation's result to what a report shows: numbers in words, tables, charts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from refstream.evaluation.protocols.base import OVERALL, ItemScore
from refstream.evaluation.report.charts import Bar, bar_chart, frame_chart, histogram, time_chart
from refstream.evaluation.results import EvalResult

MAX_VIDEOS = 1500  # rows of the table; the worst are shown
MAX_MISSING = 200  # lines of the list
MAX_GROUPS = 60  # bars
TIME_STEPS = 41  # positions between the first and the last frame at which curves are averaged
PREFERRED = ("J&F", "J", "IoU")
Cell = tuple[str, str | float]
"""What is shown, and what it is sorted by."""
COUNTS = ("expressions", "objects", "samples")  # metrics of a summary that are no scores


def number(value: Any, digits: int = 1) -> str:
    """A number in words; a dash for one that is missing or not finite."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:,.{digits}f}"


def item_metric(result: EvalResult) -> str | None:
    """The value of an item that stands for the headline, in [0, 1] for all items; None: there is none."""
    shares = share_metrics(result.items)
    wanted = (result.headline, *PREFERRED, *shares)
    return next((metric for metric in wanted if metric in shares), None)


def share_metrics(items: Sequence[ItemScore]) -> list[str]:
    """Metrics of items of which all values lie in [0, 1], in their order."""
    good: dict[str, bool] = {}
    for item in items:
        for metric, value in item.values.items():
            good[metric] = good.get(metric, True) and 0.0 <= value <= 1.0
    return [metric for metric, fits in good.items() if fits]


def in_percent(result: EvalResult) -> bool:
    """Whether the summary is in percent, as most protocols have it: the unit that fits the items' mean."""
    value = result.summary.get(OVERALL, {}).get(result.headline)
    mean = _mean([item.values[result.headline] for item in result.items if result.headline in item.values])
    if value is None or mean is None or not (math.isfinite(value) and math.isfinite(mean)):
        return True
    return abs(value - 100 * mean) <= abs(value - mean)


@dataclass(frozen=True)
class TableData:
    """A table: names of the columns, rows of cells, and a note."""

    columns: list[str]
    rows: list[list[Cell]]
    note: str = ""


def runs_table(result: EvalResult) -> TableData:
    """The model, its floors and ceilings: the metrics of "overall", then the headline by group."""
    rows = result.rows()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    digits = 1 if in_percent(result) else 3
    cells = [[_cell(row["run"]), *(_cell(row.get(column), digits) for column in columns[1:])] for row in rows]
    note = f"Columns after the metrics: {result.headline} by group." if len(result.summary) > 1 else ""
    return TableData(columns, cells, note)


def groups_chart(result: EvalResult) -> Markup | None:
    """The headline by group, with the floors and ceilings as signs; None if nothing is known of any."""
    others = [*result.floors.items(), *result.ceilings.items()]
    learned, scale = result.learned(), 1 if in_percent(result) else 100
    bars = []
    for group, values in list(result.summary.items())[: MAX_GROUPS + 1]:
        if _known(values.get(result.headline)):
            marks = {
                name: scale * summary[group][result.headline]
                for name, summary in others
                if _known(summary.get(group, {}).get(result.headline))
            }
            count = next((f"n {values[c]:.0f}" for c in COUNTS if c in values), "")
            note = " · ".join(filter(None, [count, "learned" if learned.get(group) else ""]))
            bars.append(Bar(group, scale * values[result.headline], marks, note))
    return bar_chart(bars, f"{result.headline} by group, in percent").markup() if bars else None


def distribution_chart(result: EvalResult, metric: str | None) -> Markup | None:
    """How the items' scores are spread."""
    values = [100 * item.values[metric] for item in result.items if metric in item.values] if metric else []
    if len(values) < 2:
        return None
    return histogram(values, f"{metric} of an item, {len(values)} items").markup()


def over_time_chart(items: Sequence[ItemScore], metric: str) -> Markup | None:
    """The mean over items at each relative position in time, and the middle half of them."""
    grid = np.linspace(0, 1, TIME_STEPS)
    curves = [
        np.interp(grid, np.linspace(0, 1, len(values)), np.asarray(values, dtype=np.float32))
        for item in items
        if len(values := item.frames.get(metric, [])) > 1
    ]
    if not curves:
        return None
    stack = 100 * np.asarray(curves, dtype=np.float32)
    low, mean, high = np.percentile(stack, 25, axis=0), stack.mean(axis=0), np.percentile(stack, 75, axis=0)
    chart = time_chart(mean.tolist(), low.tolist(), high.tolist(), f"{metric} over time, {len(curves)} items")
    return chart.markup()


def item_chart(item: ItemScore, metric: str, shown: Sequence[int]) -> Markup | None:
    """The value of each frame of one item."""
    values = [100 * value for value in item.frames.get(metric, [])]
    if len(values) < 2 or any(number >= len(values) for number in shown):
        return None
    return frame_chart(values, shown, f"{metric} of each frame").markup()


def frame_metric(items: Sequence[ItemScore]) -> str | None:
    """The metric to draw over time: J, or the first one that has values for frames."""
    known = dict.fromkeys(metric for item in items for metric in item.frames)
    return next((metric for metric in ("J", *known) if metric in known), None)


def videos_table(result: EvalResult, metric: str | None) -> TableData:
    """One row per video: means over its items, in percent."""
    metrics = share_metrics(result.items)
    first = [metric] if metric is not None else []
    metrics = [*first, *(name for name in metrics if name != metric)]
    by_video: dict[str, list[ItemScore]] = defaultdict(list)
    for item in result.items:
        by_video[item.video].append(item)
    rows = []
    for video, items in by_video.items():
        means = [_mean([100 * i.values[name] for i in items if name in i.values]) for name in metrics]
        missing = sum(len(item.missing) for item in items)
        rows.append([_cell(video), _count(len(items)), *map(_cell, means), _count(missing)])
    if metric is not None:
        rows.sort(key=lambda row: (_sortable(row[2][1]), str(row[0][1])))
    note = f"The {MAX_VIDEOS} worst of {len(rows)} videos." if len(rows) > MAX_VIDEOS else ""
    return TableData(["video", "items", *metrics, "missing frames"], rows[:MAX_VIDEOS], note)


def missing_lines(result: EvalResult) -> tuple[list[str], int]:
    """What had no prediction, a line per item, at most ``MAX_MISSING``; and how many items there are."""
    lacking = [item for item in result.items if item.missing]
    lines = []
    for item in lacking[:MAX_MISSING]:
        names = ", ".join(item.missing[:8]) + (", …" if len(item.missing) > 8 else "")
        words = f" “{item.text}”" if item.text else ""
        lines.append(f"{item.video} / {item.id}{words}: {len(item.missing)} frames ({names})")
    return lines, len(lacking)


def speed_figures(result: EvalResult) -> list[tuple[str, str]]:
    """(name, value) of what the run cost, and how steady its masks are."""
    figures: list[tuple[str, str]] = []
    if (speed := result.speed) is not None:
        figures += [
            ("frames per second", number(speed.fps)),
            ("expressions per stream", number(speed.expressions_per_stream)),
            ("MLLM calls per frame", number(speed.mllm_calls_per_frame, 3)),
            ("latency p50, ms", number(speed.latency_ms_p50)),
            ("latency p95, ms", number(speed.latency_ms_p95)),
            ("first mask p50, ms", number(speed.first_mask_ms_p50)),
        ]
    figures += [(f"stability: {name}", number(value, 3)) for name, value in (result.stability or {}).items()]
    return figures


def headline_figures(result: EvalResult) -> list[tuple[str, str]]:
    """(metric, value) of "overall", the headline first."""
    overall = {k: v for k, v in result.summary.get(OVERALL, {}).items() if k not in COUNTS}
    names = [result.headline, *(name for name in overall if name != result.headline)]
    digits = 1 if in_percent(result) else 3
    return [(name, number(overall.get(name), digits)) for name in names]


def _cell(value: Any, digits: int = 1) -> Cell:
    if isinstance(value, str):
        return value, value
    return number(value, digits), float(value) if _known(value) else -1.0


def _count(value: int) -> Cell:
    return f"{value:,}", float(value)


def _sortable(value: str | float) -> float:
    return value if isinstance(value, float) else -1.0


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
