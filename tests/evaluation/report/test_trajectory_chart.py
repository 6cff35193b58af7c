"""The picture of trajectories: where its lines are, and what it refuses."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.evaluation.report.trajectory_chart import MAX_RUNS, line_class, trajectory_chart

SVG = "{http://www.w3.org/2000/svg}"


def drawn(places, size=(100, 200), **keys):
    return ElementTree.fromstring(trajectory_chart(places, size, "a title", **keys).document())


def lines(root, number):
    """The points of a trajectory's lines, in the order in which they are drawn."""
    found = [line for line in root.iter(f"{SVG}polyline") if line.get("class") == line_class(number)]
    return [[tuple(map(float, p.split(","))) for p in line.get("points").split()] for line in found]


def test_places_are_to_scale():
    """Over time x goes up with its value and y down; in the frame both are in one scale."""
    truth = np.array([[0.0, 0.0], [100.0, 100.0], [200.0, 50.0]])
    root = drawn({"truth": truth, "run": truth + 0.0})
    over_x, over_y, frame = lines(root, 1)
    assert over_x == lines(root, 0)[0]
    steps = np.diff([x for x, _ in over_x])
    assert steps[0] == pytest.approx(steps[1])
    assert (over_x[0][1] - over_x[1][1]) == pytest.approx(over_x[1][1] - over_x[2][1])  # 0, 100, 200
    assert over_y[1][1] - over_y[0][1] == pytest.approx(2 * (over_y[2][1] - over_y[0][1]))  # 0, 100, 50
    (x0, y0), (x1, y1), (x2, y2) = frame
    assert x1 - x0 == pytest.approx(y1 - y0, abs=0.02)
    assert x2 - x0 == pytest.approx(2 * (x1 - x0), abs=0.02)
    assert y2 - y0 == pytest.approx((y1 - y0) / 2, abs=0.02)


def test_lines_break_where_a_place_is_unknown():
    places = np.array([[1.0, 1.0], [2.0, 2.0], [np.nan, np.nan], [4.0, 4.0], [np.nan, np.nan]])
    root = drawn({"truth": np.arange(10.0).reshape(5, 2), "run": places})
    assert [len(line) for line in lines(root, 1)] == [2, 2] * 3  # the second is a dash for a lonely point
    lonely = lines(root, 1)[1]
    assert lonely[1][0] - lonely[0][0] == pytest.approx(5)
    assert [len(line) for line in lines(root, 0)] == [5, 5, 5]


def test_each_run_has_a_frame_a_colour_and_a_word_in_the_legend():
    truth = np.arange(12.0).reshape(6, 2)
    names = [f"run {number}" for number in range(MAX_RUNS)]
    root = drawn({"truth": truth} | dict.fromkeys(names, truth), notes={"run 3": "jerk 1 %", "truth": "0 %"})
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert {"truth (0 %)", "run 3 (jerk 1 %)", "a title", *names} <= set(words)
    assert len([r for r in root.iter(f"{SVG}rect") if r.get("class") == "track"]) == MAX_RUNS
    style = root.find(f"{SVG}style").text
    colours = [style.split(f".chart .t{n}{{stroke:")[1].split("}")[0] for n in range(MAX_RUNS)]
    assert len(set(colours)) == MAX_RUNS
    width, height = float(root.get("width")), float(root.get("height"))
    inside = [p for n in range(MAX_RUNS + 1) for line in lines(root, n) for p in line]
    assert all(0 <= x <= width and 0 <= y <= height for x, y in inside)


def test_what_cannot_be_drawn_is_refused():
    truth, nothing = np.zeros((3, 2)), np.full((3, 2), np.nan)
    with pytest.raises(UserError, match="1 to 6 runs besides the truth, got 7"):
        drawn({"truth": truth} | {str(n): truth for n in range(7)})
    with pytest.raises(UserError, match="got 0"):
        drawn({"truth": truth})
    with pytest.raises(UserError, match="a title: no trajectory has a single known place"):
        drawn({"truth": nothing, "run": nothing})
    drawn({"truth": nothing, "run": truth})  # a hidden target
    drawn({"truth": truth[:1], "run": truth[:1]})  # one frame
