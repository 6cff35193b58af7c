from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from refstream.evaluation.benchmark import EvalVideo
from refstream.evaluation.curve import CurvePoint, GateCurve
from refstream.evaluation.evaluate import Evaluation
from refstream.evaluation.predictions.base import Prediction
from refstream.evaluation.protocols.base import ItemScore
from refstream.evaluation.protocols.families import Families
from refstream.evaluation.protocols.per_expression import PerExpression
from refstream.evaluation.report import figures
from refstream.evaluation.report.html import render_page, write_report
from refstream.evaluation.results import EvalResult

VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Keeps a stack of open elements, the ids, the words and every address."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        self.ids += [names["id"]] if "id" in names else []
        self.addresses += [names[key] for key in ("src", "href", "action") if names.get(key)]
        self.scripts += tag == "script"
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.stack == []
    assert len(checker.ids) == len(set(checker.ids))
    assert all(address.startswith("data:image/jpeg;base64,") for address in checker.addresses)
    assert not re.search(r"url\(|@import|\bnan\b|\binf\b|Undefined|None", re.sub(r"data:[^\"]+", "", page))
    assert checker.scripts == 1
    return checker


class Truth:
    """Perfect predictions, but for frames that are missing."""

    fingerprint = "truth"

    def __init__(self, benchmark, missing=()) -> None:
        self.benchmark, self.missing = benchmark, tuple(missing)

    def read(self, video, expression, size):
        masks = np.array(self.benchmark.truth(video, expression))
        masks[list(self.missing)] = False
        return Prediction(masks, missing=self.missing)


def scored(benchmark, predictions, protocol=None) -> EvalResult:
    protocol = protocol or PerExpression()
    items = [i for video in benchmark.videos for i in protocol.score_video(benchmark, video, predictions)]
    return EvalResult(
        benchmark=benchmark.name,
        split=benchmark.split,
        protocol=protocol.name,
        headline=protocol.headline,
        subject="predictions",
        settings=benchmark.settings,
        summary=protocol.summarize(benchmark, items),
        items=items,
        expected={"videos": len(benchmark.videos), "expressions": benchmark.num_expressions},
    )


def test_a_run_with_floors(tmp_path, two_squares, colour_pipeline, box_segmenter):
    evaluation = Evaluation(colour_pipeline, two_squares, Families())
    result = evaluation.result("colours", segmenter=box_segmenter, floors=True)
    masks = evaluation.run("model", two_squares)
    path = write_report(tmp_path / "new" / "report.html", result, two_squares, masks)
    page = path.read_text(encoding="utf-8")
    words = " ".join(checked(page).words)
    for name in ("shuffled", "empty", "blank", "largest", "oracle box", "appearance", "motion"):
        assert name in words
    assert "the square that moves" in words
    assert "frames per second" in words
    assert f"{result.value():.1f}" in words
    assert page.count("data:image/jpeg") == 3 * 3
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_expressions_are_text_not_markup(two_squares):
    evil = '<script>alert("1")</script>'
    video = two_squares.videos[0]
    words = tuple(replace(expression, text=evil) for expression in video.expressions)
    two_squares.videos = [replace(video, expressions=words)]
    predictions = Truth(two_squares, missing=[1])
    result = replace(scored(two_squares, predictions), subject=evil, settings={"note": evil})
    page = render_page(result, two_squares, predictions)
    assert evil not in page
    assert "&lt;script&gt;alert" in page
    assert evil in "".join(checked(page).words)


def test_missing_predictions_are_listed(two_squares):
    predictions = Truth(two_squares, missing=[0, 2])
    page = render_page(scored(two_squares, predictions), two_squares, predictions)
    words = "".join(checked(page).words)
    assert "3 items lack predictions" in words
    assert "only / 0 “the red square”: 2 frames (00000, 00002)" in words
    assert "no prediction" in words


def test_pictures_are_read_for_the_chosen_cases_alone(two_squares):
    video = two_squares.videos[0]
    two_squares.videos = [replace(video, id=f"video {n}") for n in range(12)]
    result = scored(two_squares, Truth(two_squares))
    asked, images = [], two_squares.images
    two_squares.images = lambda video: asked.append(video.id) or images(video)
    page = render_page(result, two_squares, Truth(two_squares), num_cases=4)
    assert len(asked) == 4
    assert page.count("data:image/jpeg") == 4 * 3
    asked.clear()
    assert "data:image/jpeg" not in render_page(result, two_squares, None)
    assert asked == []


def test_pictures_of_one_frame(two_squares):
    video = two_squares.videos[0]
    two_squares.videos = [EvalVideo(video.id, video.frames[:1], video.expressions, video.size)]
    two_squares.masks = two_squares.masks[:, :1]
    predictions = Truth(two_squares)
    page = render_page(scored(two_squares, predictions), two_squares, predictions)
    checked(page)
    assert "over time" not in page
    assert page.count("data:image/jpeg") == 3


def test_items_that_are_objects_and_figures_that_are_missing(two_squares):
    items = [
        ItemScore("only", f"anno_0/object_{n}", "", "annotator 0", {"J": 0.5, "F": 0.7}) for n in range(2)
    ]
    result = replace(
        scored(two_squares, Truth(two_squares)),
        items=items,
        headline="J&F-Mean",
        summary={"overall": {"objects": 2.0}, "annotator 0": {"J&F-Mean": float("nan"), "objects": 2.0}},
    )
    page = render_page(result, two_squares, Truth(two_squares))
    words = "".join(checked(page).words)
    assert "–" in words
    assert "data:image/jpeg" not in page
    assert figures.item_metric(result) == "J"


def test_no_items_at_all(two_squares):
    result = replace(scored(two_squares, Truth(two_squares)), items=[], summary={"overall": {}})
    checked(render_page(result, two_squares, Truth(two_squares), show_published=True))


def test_values_that_are_no_shares_are_not_drawn(two_squares):
    items = [ItemScore("only", str(n), "", "", {"inter": 40.0 + n, "IoU": 0.1 * n}) for n in range(3)]
    result = replace(scored(two_squares, Truth(two_squares)), items=items, headline="cIoU")
    assert figures.item_metric(result) == "IoU"
    table = figures.videos_table(result, "IoU")
    assert table.columns == ["video", "items", "IoU", "missing frames"]
    assert table.rows[0][2] == ("10.0", pytest.approx(10))


def test_videos_come_worst_first(two_squares):
    scores = {"b": 0.9, "a": 0.1, "c": 0.5}
    items = [ItemScore(video, "0", "", "", {"J&F": score}) for video, score in scores.items()]
    result = replace(scored(two_squares, Truth(two_squares)), items=items)
    assert [row[0][0] for row in figures.videos_table(result, "J&F").rows] == ["a", "c", "b"]


def test_the_mean_over_time_is_of_relative_positions():
    items = [
        ItemScore("a", "0", "", "", {"J": 0.5}, {"J": [0.0, 1.0]}),
        ItemScore("b", "0", "", "", {"J": 0.5}, {"J": [1.0, 0.5, 0.0]}),
    ]
    chart = figures.over_time_chart(items, "J")
    points = re.search(r'polyline points="([^"]+)"', chart).group(1).split()
    heights = {point.split(",")[1] for point in points}
    assert len(heights) == 1  # the one rises as the other falls


def test_curve_and_published_figures(two_squares):
    point = CurvePoint({"type": "EveryFrameGate"}, "always", 1.0, 10.0, 50.0, {"J&F": 50.0}, 40.0, 60.0)
    first = replace(point, label="first", calls_per_frame=0.1, fps=25.0, score=44.0)
    curve = GateCurve("two_squares", "test", "families", "J&F", "colours", {}, 3, [point, first])
    result = scored(two_squares, Truth(two_squares))
    page = render_page(result, two_squares, None, show_published=True, curve=curve)
    words = " ".join(checked(page).words)
    assert "always (1.00)" in words
    assert "first (0.10)" in words
    assert "No published figures are known" in words
    known = replace(result, benchmark="revos", split="valid", protocol="revos")
    words = " ".join(checked(render_page(known, two_squares, None, show_published=True)).words)
    assert "Taken from papers, not measured here." in words
    assert "R_visa255" in words


def test_summaries_that_are_not_in_percent(two_squares):
    items = [ItemScore("only", str(n), "", "", {"steadiness": 0.8}) for n in range(3)]
    summary = {"overall": {"steadiness": 0.8, "jitter": 0.123}}
    result = scored(two_squares, Truth(two_squares))
    result = replace(result, items=items, headline="steadiness", summary=summary)
    assert not figures.in_percent(result)
    assert figures.headline_figures(result) == [("steadiness", "0.800"), ("jitter", "0.123")]
    assert "overall: 80.0" in figures.groups_chart(result)
    percent = replace(result, summary={"overall": {"steadiness": 80.0}})
    assert figures.in_percent(percent)
    assert "overall: 80.0" in figures.groups_chart(percent)
