from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from refstream.evaluation.report.charts import (
    Bar,
    Dot,
    bar_chart,
    frame_chart,
    histogram,
    nice_ticks,
    scatter,
    time_chart,
)
from refstream.evaluation.report.svg import Canvas

SVG = "{http://www.w3.org/2000/svg}"


def parsed(canvas: Canvas) -> ET.Element:
    return ET.fromstring(canvas.document())


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [element for element in root.iter() if name in (element.get("class") or "").split()]


def test_words_are_escaped():
    canvas = Canvas(10, 10, "<b>&")
    canvas.text((0, 0), "</svg><script>alert(1)</script>")
    canvas.rect(0, 0, 1, 1, "bar", tip='a "quoted" <tip>')
    root = parsed(canvas)
    assert root.get("aria-label") == "<b>&"
    assert root.find(f"{SVG}text").text == "</svg><script>alert(1)</script>"
    assert root.find(f"{SVG}rect[2]/{SVG}title").text == 'a "quoted" <tip>'
    assert "<script>" not in canvas.markup()


def test_a_chart_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match="nan"):
        Canvas(10, 10, "").circle((float("nan"), 0), 1, "dot")


def test_bars_are_as_long_as_their_values_and_marks_stand_where_theirs_are():
    root = parsed(
        bar_chart([Bar("overall", 50, {"floor": 25}), Bar("small", 10, {"floor": 0})], "J by group")
    )
    track, bars = of_class(root, "track")[0], of_class(root, "bar")
    full, left = float(track.get("width")), float(track.get("x"))
    assert [float(bar.get("width")) / full for bar in bars] == pytest.approx([0.5, 0.1], abs=1e-4)
    marks = [
        float(m.get("x")) + float(m.get("width")) / 2 for m in of_class(root, "m0")[1:]
    ]  # [0]: the legend
    assert [(x - left) / full for x in marks] == pytest.approx([0.25, 0.0], abs=1e-4)
    assert {element.text for element in root.iter(f"{SVG}text")} >= {
        "overall",
        "small",
        "50.0",
        "10.0",
        "floor",
    }


def test_histogram_counts_all_values():
    root = parsed(histogram([0, 0, 0, 49.9, 50, 100], "J", num_bins=2))
    tips = [bar.find(f"{SVG}title").text for bar in of_class(root, "bar")]
    assert tips == ["0 to 50: 4", "50 to 100: 2"]
    tall, low = (float(bar.get("height")) for bar in of_class(root, "bar"))
    assert tall == pytest.approx(2 * low, abs=0.02)


def test_curves_over_time_go_from_end_to_end():
    root = parsed(time_chart([0, 50, 100], [0, 40, 90], [10, 60, 100], "J"))
    points = [tuple(map(float, p.split(","))) for p in of_class(root, "line")[0].get("points").split()]
    assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0])
    assert points[0][1] - points[1][1] == pytest.approx(points[1][1] - points[2][1])
    assert len(of_class(root, "band")[0].get("points").split()) == 6
    dots = of_class(parsed(frame_chart([10, 20, 30], [0, 2], "J")), "dot")
    assert [dot.find(f"{SVG}title").text for dot in dots] == ["frame 1: 10.0", "frame 3: 30.0"]


def test_labels_of_a_scatter_plot_do_not_cover_each_other():
    dots = [Dot(10 + 0.01 * n, 50 + 0.01 * n, f"setting {n}", f"tip {n}") for n in range(4)]
    root = parsed(scatter([*dots, Dot(30, 40, "far", "far")], "FPS", "J&F", "curve"))
    labels = [text for text in root.iter(f"{SVG}text") if "setting" in text.text]
    places = [(float(text.get("x")), float(text.get("y"))) for text in labels]
    assert len(places) == 4
    pairs = [(a, b) for n, a in enumerate(places) for b in places[:n]]
    assert all(abs(a[1] - b[1]) >= 13 or abs(a[0] - b[0]) >= 54 for a, b in pairs)


@pytest.mark.parametrize(
    ("low", "high", "count", "ticks"),
    [(0, 10, 6, [0, 2, 4, 6, 8, 10]), (3.2, 3.9, 4, [3, 3.25, 3.5, 3.75, 4]), (5, 5, 4, [5])],
)
def test_ticks_are_round_and_enclose(low, high, count, ticks):
    found = nice_ticks(low, high, count)
    assert found[0] <= low
    assert found[-1] >= high
    assert len(found) >= 2
    assert set(ticks) <= set(found)


def test_counts_have_whole_ticks():
    assert nice_ticks(0, 1, 4, whole=True) == [0, 1]
    assert nice_ticks(0, 7, 4, whole=True) == [0, 3, 6, 9]
