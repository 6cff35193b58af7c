"""The charts of a report. Values are in percent, unless a chart says otherwise; all of them finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refstream.evaluation.report.svg import Canvas, Point, shortened, text_width

WIDTH = 720.0
BAR_HEIGHT, BAR_STEP = 14.0, 26.0
LABEL_LETTERS = 24


@dataclass(frozen=True)
class Bar:
    """One bar: a value, and what it is to be compared with.

    Attributes:
        label: Of the bar.
        value: In [0, 100].
        marks: Name -> value of each floor and ceiling, in [0, 100].
        note: Small text after the value.
    """

    label: str
    value: float
    marks: Mapping[str, float]
    note: str = ""


def bar_chart(bars: Sequence[Bar], title: str) -> Canvas:
    """Bars from 0 to 100, the first one set apart, with a sign at each mark and a legend."""
    names = list(dict.fromkeys(name for bar in bars for name in bar.marks))
    longest = max((len(shortened(bar.label, LABEL_LETTERS)) for bar in bars), default=0)
    left, right = 16 + text_width("x" * longest), 150.0
    top = 26.0 if names else 6.0
    canvas = Canvas(WIDTH, top + BAR_STEP * len(bars) + 26, title)
    span = WIDTH - left - right
    bottom = top + BAR_STEP * len(bars)
    for tick in range(0, 101, 20):
        x = left + span * tick / 100
        canvas.line((x, top), (x, bottom), "grid")
        canvas.text((x, bottom + 14), str(tick), "soft", "middle")
    _legend(canvas, names, left)
    for row, bar in enumerate(bars):
        y = top + BAR_STEP * row + (BAR_STEP - BAR_HEIGHT) / 2
        middle = y + BAR_HEIGHT / 2
        canvas.text((left - 8, middle + 4), shortened(bar.label, LABEL_LETTERS), _strong(row), "end")
        canvas.rect(left, y, span, BAR_HEIGHT, "track")
        tip = f"{bar.label}: {bar.value:.1f}"
        canvas.rect(left, y, span * _unit(bar.value), BAR_HEIGHT, "bar main" if row == 0 else "bar", tip)
        for name, value in bar.marks.items():
            at = (left + span * _unit(value), middle)
            canvas.mark(names.index(name), at, f"{bar.label}, {name}: {value:.1f}")
        canvas.text((left + span + 8, middle + 4), f"{bar.value:.1f}", _strong(row))
        canvas.text((left + span + 42, middle + 4), bar.note, "soft")
    return canvas


def histogram(values: Sequence[float], title: str, num_bins: int = 20) -> Canvas:
    """How many of ``values`` lie where between 0 and 100."""
    counts, edges = np.histogram(np.clip(values, 0, 100), bins=num_bins, range=(0, 100))
    width, height, left, top, bottom = 460.0, 210.0, 40.0, 10.0, 34.0
    canvas = Canvas(width, height, title)
    span, rise = width - left - 16, height - top - bottom
    ticks = nice_ticks(0, max(1, int(counts.max())), 4, whole=True)
    for tick in ticks:
        y = top + rise * (1 - tick / ticks[-1])
        canvas.line((left, y), (left + span, y), "grid")
        canvas.text((left - 6, y + 4), f"{tick:.0f}", "soft", "end")
    step = span / num_bins
    for number, count in enumerate(counts):
        size = rise * int(count) / ticks[-1]
        tip = f"{edges[number]:.0f} to {edges[number + 1]:.0f}: {int(count)}"
        if count:
            canvas.rect(left + step * number + 1, top + rise - size, step - 2, size, "bar", tip)
    for value in range(0, 101, 20):
        canvas.text((left + span * value / 100, top + rise + 14), str(value), "soft", "middle")
    canvas.text((left + span / 2, height - 4), title, "soft", "middle")
    return canvas


def time_chart(mean: Sequence[float], low: Sequence[float], high: Sequence[float], title: str) -> Canvas:
    """A mean over relative time, in percent, and the band between two quantiles."""
    canvas, place = _time_axes(460.0, 210.0, "first frame", "last frame", title)
    count = len(mean)
    upper = [place(i / (count - 1), value) for i, value in enumerate(high)]
    lower = [place(i / (count - 1), value) for i, value in enumerate(low)]
    canvas.path([*upper, *reversed(lower)], "band", closed=True)
    canvas.path([place(i / (count - 1), value) for i, value in enumerate(mean)], "line")
    return canvas


def frame_chart(values: Sequence[float], shown: Sequence[int], title: str) -> Canvas:
    """The value of each frame, in percent; dots where ``shown`` frames are drawn as pictures."""
    canvas, place = _time_axes(460.0, 120.0, "frame 1", f"frame {len(values)}", title)
    points = [place(i / max(1, len(values) - 1), value) for i, value in enumerate(values)]
    canvas.path(points, "line")
    for number in shown:
        canvas.circle(points[number], 3.5, "dot", f"frame {number + 1}: {values[number]:.1f}")
    return canvas


@dataclass(frozen=True)
class Dot:
    """A point of a scatter plot, with a short label and a longer tip."""

    x: float
    y: float
    label: str
    tip: str


def scatter(dots: Sequence[Dot], x_name: str, y_name: str, title: str) -> Canvas:
    """Labelled points, joined in their order; the axes begin where the data do."""
    width, height, left, top, bottom = WIDTH, 340.0, 52.0, 16.0, 40.0
    canvas = Canvas(width, height, title)
    span, rise = width - left - 24, height - top - bottom
    xs = nice_ticks(min(d.x for d in dots), max(d.x for d in dots), 6)
    ys = nice_ticks(min(d.y for d in dots), max(d.y for d in dots), 5)

    def place(x: float, y: float) -> Point:
        return (
            left + span * (x - xs[0]) / (xs[-1] - xs[0]),
            top + rise * (1 - (y - ys[0]) / (ys[-1] - ys[0])),
        )

    for tick in ys:
        canvas.line(place(xs[0], tick), place(xs[-1], tick), "grid")
        canvas.text((left - 6, place(xs[0], tick)[1] + 4), f"{tick:g}", "soft", "end")
    for tick in xs:
        canvas.line(place(tick, ys[0]), place(tick, ys[-1]), "grid")
        canvas.text((place(tick, ys[0])[0], top + rise + 15), f"{tick:g}", "soft", "middle")
    canvas.text((left + span / 2, height - 6), x_name, "soft", "middle")
    canvas.text((left + 4, top + 10), y_name, "soft")
    points = [place(dot.x, dot.y) for dot in dots]
    canvas.path(points, "thread")
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for dot, point in zip(dots, points, strict=True):
        canvas.circle(point, 5, "dot", dot.tip)
        box = _free_box(point, text_width(dot.label), taken, (left, top, left + span, top + rise))
        taken.append(box)
        canvas.text((box[0], box[3] - 3), dot.label)
    return canvas


def nice_ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """About ``count`` round numbers, at least two, that enclose [low, high]."""
    span = max(high - low, 1e-9 * max(1.0, abs(high)), 1.0 if whole else 1e-6)
    rough = span / max(1, count - 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    step = max(1.0, math.ceil(step)) if whole else step
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return [round(number * step, 10) for number in range(first, last + 1)]


Box = tuple[float, float, float, float]


def _free_box(point: Point, width: float, taken: Sequence[Box], frame: Box) -> Box:
    """Where a label of ``width`` fits beside a point: the first of several places that touches nothing."""
    x, y = point
    places = [(9.0, -14.0), (9.0, 2.0), (-9 - width, -14.0), (-9 - width, 2.0), (-width / 2, -22.0)]
    places += [(-width / 2, 9.0), (9.0, -28.0), (9.0, 16.0), (-9 - width, -28.0), (-9 - width, 16.0)]
    boxes = [(x + dx, y + dy, x + dx + width, y + dy + 13) for dx, dy in places]
    inside = [b for b in boxes if b[0] >= frame[0] and b[2] <= frame[2] + 20 and b[1] >= frame[1] - 14]
    inside = [b for b in inside if b[3] <= frame[3]] or boxes
    return next((box for box in inside if not any(_touch(box, other) for other in taken)), inside[0])


def _touch(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _time_axes(
    width: float, height: float, first: str, last: str, title: str
) -> tuple[Canvas, Callable[[float, float], Point]]:
    left, top, bottom = 40.0, 10.0, 22.0
    canvas = Canvas(width, height, title)
    span, rise = width - left - 12, height - top - bottom

    def place(x: float, y: float) -> Point:
        return left + span * x, top + rise * (1 - _unit(y))

    for value in (0, 50, 100) if height < 160 else range(0, 101, 25):
        canvas.line(place(0, value), place(1, value), "grid")
        canvas.text((left - 6, place(0, value)[1] + 4), str(value), "soft", "end")
    canvas.text((left, height - 6), first, "soft")
    canvas.text((left + span, height - 6), last, "soft", "end")
    return canvas, place


def _legend(canvas: Canvas, names: Sequence[str], left: float) -> None:
    x = left
    for number, name in enumerate(names):
        canvas.mark(number, (x + 5, 11))
        canvas.text((x + 15, 15), name, "soft")
        x += 30 + text_width(name)


def _strong(row: int) -> str:
    return "strong" if row == 0 else ""


def _unit(percent: float) -> float:
    return min(1.0, max(0.0, percent / 100))
