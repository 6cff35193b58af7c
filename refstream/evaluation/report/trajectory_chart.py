"""Trajectories as a picture: x and y over time, and the path in the frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from refstream.errors import UserError
from refstream.evaluation.report.charts import WIDTH, nice_ticks
from refstream.evaluation.report.svg import CHAR_WIDTH, Canvas, Point, shortened, text_width

LEFT, SPAN, PANEL, GAP, FRAME_GAP = 52.0, WIDTH - 68.0, 170.0, 46.0, 14.0
LEGEND_STEP, LINE_SAMPLE = 18.0, 26.0
MAX_RUNS = 6
TRUTH_CLASS = "trail truth"


def trajectory_chart(
    places: Mapping[str, np.ndarray],
    size: tuple[int, int],
    title: str,
    notes: Mapping[str, str] | None = None,
) -> Canvas:
    """Two panels over time, and one of the frame for each run; the first trajectory is the truth.

    Args:
        places: Name -> (K, 2) x, y in pixels, NaN where unknown; the first one is drawn broad and grey. Lines
            break where a place is unknown.
        size: (H, W) of the frame in pixels.
        title: Above the panels.
        notes: Name -> what the legend says after the name.

    Raises:
        UserError: For no run or more than ``MAX_RUNS``, or if no place is known.
    """
    names = list(places)
    known = np.concatenate([one[~np.isnan(one).any(1)] for one in places.values()])
    count = max(len(one) for one in places.values())
    if not 1 <= len(names) - 1 <= MAX_RUNS:
        raise UserError(f"a picture holds 1 to {MAX_RUNS} runs besides the truth, got {len(names) - 1}")
    if not len(known):
        raise UserError(f"{title}: no trajectory has a single known place")
    legend = _legend_lines(names, notes or {})
    top = 56.0 + LEGEND_STEP * len(legend)
    begin = top + 2 * (PANEL + GAP) + 16
    side = (SPAN - 2 * FRAME_GAP) / 3
    step = side * size[0] / size[1] + 28
    canvas = Canvas(WIDTH, begin + step * math.ceil((len(names) - 1) / 3), title)
    canvas.text((LEFT, 18), title, "strong")
    for row, line in enumerate(legend):
        x, y = LEFT, 36.0 + LEGEND_STEP * row
        for number, words, width in line:
            canvas.line((x, y), (x + LINE_SAMPLE, y), line_class(number))
            canvas.text((x + LINE_SAMPLE + 6, y + 4), words)
            x += width
    for axis, name in enumerate(("x, pixels", "y, pixels, downwards")):
        ticks = nice_ticks(float(known[:, axis].min()), float(known[:, axis].max()), 5)
        place = _panel(canvas, top + axis * (PANEL + GAP), count, ticks, downwards=axis == 1)
        canvas.text((LEFT, top + axis * (PANEL + GAP) - 7), name, "soft")
        for number, one in enumerate(places.values()):
            _trail(canvas, [(t, float(v)) for t, v in enumerate(one[:, axis])], place, number)
    canvas.text((LEFT + SPAN, begin - 30), "frame", "soft", "end")
    for number in range(1, len(names)):
        row, column = divmod(number - 1, 3)
        at = (LEFT + column * (side + FRAME_GAP), begin + row * step)
        canvas.text((at[0], at[1] - 6), shortened(names[number], int(side / CHAR_WIDTH)), "soft")
        canvas.rect(*at, side, step - 28, "track")
        in_frame = partial(_in_frame, at, side / size[1])
        _trail(canvas, [(float(x), float(y)) for x, y in places[names[0]]], in_frame, 0)
        _trail(canvas, [(float(x), float(y)) for x, y in places[names[number]]], in_frame, number)
    return canvas


def line_class(number: int) -> str:
    """The style of a trajectory's line: 0 the truth, then the runs."""
    return TRUTH_CLASS if number == 0 else f"trail t{number - 1}"


def _in_frame(corner: Point, scale: float, x: float, y: float) -> Point:
    return corner[0] + scale * x, corner[1] + scale * y


def _panel(
    canvas: Canvas, begin: float, count: int, ticks: Sequence[float], *, downwards: bool
) -> Callable[[float, float], Point]:
    """Axes of a value over frames; the function that places a point."""

    def place(t: float, value: float) -> Point:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return LEFT + SPAN * t / max(1, count - 1), begin + PANEL * (share if downwards else 1 - share)

    for tick in ticks:
        canvas.line(place(0, tick), (LEFT + SPAN, place(0, tick)[1]), "grid")
        canvas.text((LEFT - 6, place(0, tick)[1] + 4), f"{tick:g}", "soft", "end")
    step = max(1, round(count / 12))
    for t in range(0, count, step):
        canvas.text((place(t, 0)[0], begin + PANEL + 15), str(t + 1), "soft", "middle")
    return place


def _trail(
    canvas: Canvas, points: Sequence[Point], place: Callable[[float, float], Point], number: int
) -> None:
    """A line that breaks at unknown points; a point without neighbours is a short dash."""
    for piece in _pieces(points):
        placed = [place(*point) for point in piece]
        if len(placed) == 1:
            ((x, y),) = placed
            placed = [(x - 2.5, y), (x + 2.5, y)]
        canvas.path(placed, line_class(number))


def _pieces(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Runs of known points."""
    piece: list[Point] = []
    for point in points:
        if any(np.isnan(point)):
            if piece:
                yield piece
            piece = []
        else:
            piece.append(point)
    if piece:
        yield piece


def _legend_lines(names: Sequence[str], notes: Mapping[str, str]) -> list[list[tuple[int, str, float]]]:
    """(number, words, width) of each entry, in lines that fit."""
    lines: list[list[tuple[int, str, float]]] = [[]]
    left = SPAN
    for number, name in enumerate(names):
        words = f"{name} ({notes[name]})" if name in notes else name
        width = LINE_SAMPLE + 24 + text_width(words)
        if width > left and lines[-1]:
            lines.append([])
            left = SPAN
        lines[-1].append((number, words, width))
        left -= width
    return lines
