from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from refstream.errors import UserError
from refstream.evaluation.predictions.base import Prediction
from refstream.evaluation.protocols.base import ItemScore
from refstream.evaluation.report.cases import FILL, LIGHT, WIDTH, choose, find, jpeg_uri, overlay, render


def item(video: str, score: float, name: str = "0", **details) -> ItemScore:
    return ItemScore(video, name, "words", "", {"J&F": score}, details=details)


class Masks:
    """The same prediction for everything."""

    fingerprint = "same"

    def __init__(self, prediction: Prediction | None) -> None:
        self.prediction = prediction

    def read(self, video, expression, size):
        return self.prediction


def test_best_and_worst_are_of_different_videos():
    scores = {"a": (0.99, 0.98, 0.97), "b": (0.96,), "c": (0.2, 0.1, 0.05), "d": (0.3,)}
    items = [
        item(video, score, str(n)) for video, all_of_it in scores.items() for n, score in enumerate(all_of_it)
    ]
    best, worst = choose(items, "J&F", 4)
    assert [(i.video, i.values["J&F"]) for i in best] == [("a", 0.99), ("b", 0.96)]
    assert [(i.video, i.values["J&F"]) for i in worst] == [("c", 0.05), ("d", 0.3)]


def test_variety_does_not_make_good_items_worst():
    items = [item("a", n / 100, str(n)) for n in range(20)] + [item("b", 0.9)]
    assert [i.values["J&F"] for i in choose(items, "J&F", 3)[1]] == [0.0, 0.01]


def test_few_videos_give_several_cases_each_and_none_twice():
    items = [item("a", score / 10, str(score)) for score in range(5)]
    best, worst = choose(items, "J&F", 4)
    assert [i.values["J&F"] for i in best] == [0.4, 0.3]
    assert [i.values["J&F"] for i in worst] == [0.0, 0.1]
    best, worst = choose(items[:1], "J&F", 6)
    assert (best, worst) == ([], items[:1])
    assert choose(items, "J&F", 0) == ([], [])
    assert choose(items, "cIoU", 4) == ([], [])


def test_absent_targets_are_not_shown_as_best_while_there_are_others():
    absent, found, bad = item("a", 1.0, no_target=True), item("b", 0.6), item("c", 0.0)
    assert choose([absent, found, bad], "J&F", 2) == ([found], [bad])
    assert choose([absent, bad], "J&F", 2) == ([absent], [bad])


def test_overlay_fills_the_prediction_and_outlines_the_truth():
    image = np.full((40, 60, 3), 200, dtype=np.uint8)
    mask, truth = np.zeros((40, 60), dtype=bool), np.zeros((40, 60), dtype=bool)
    mask[5:20, 5:20], truth[22:38, 30:50] = True, True
    picture = overlay(image, mask, truth)
    assert picture.shape == (200, 300, 3)  # five times as large
    assert np.array_equal(picture[60, 60], np.round(200 * 0.4 + np.array(FILL) * 0.6))
    assert np.array_equal(picture[25, 60], FILL)  # its edge
    assert np.array_equal(picture[110, 200], LIGHT)  # the truth's edge
    assert picture[109, 200].max() < 50  # dark just outside
    assert np.array_equal(picture[150, 200], [200, 200, 200])  # inside the truth nothing is filled
    assert np.array_equal(picture[5, 290], [200, 200, 200])
    assert image.min() == 200


@pytest.mark.parametrize(("height", "width", "expected"), [(1080, 1920, (180, 320)), (480, 854, (180, 320))])
def test_large_frames_shrink_and_masks_of_another_size_fit(height, width, expected):
    image = np.zeros((height, width, 3), dtype=np.uint8)
    picture = overlay(image, np.ones((30, 40), dtype=bool), None)
    assert picture.shape[:2] == expected
    assert picture.shape[1] <= WIDTH
    assert picture[90, 160].tolist() == [round(0.6 * value) for value in FILL]


def test_pictures_are_spread_over_the_scored_frames(two_squares):
    masks = np.array(two_squares.masks[0])
    score = item("only", 1.0)
    case = render(two_squares, Masks(Prediction(masks, missing=(1,))), score)
    assert [(p.frame, p.position, p.predicted) for p in case.pictures] == [
        ("00000", 0, True),
        ("00001", 1, False),
        ("00002", 2, True),
    ]
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(case.pictures[0].source.split(",")[1]))))
    assert decoded.shape[1] <= WIDTH
    scale = decoded.shape[1] // 60
    assert abs(decoded[14 * scale, 14 * scale].astype(int) - [230, 4, 88]).max() < 30  # red under magenta
    assert case.problem == ""


def test_an_item_that_is_no_expression_has_no_pictures(two_squares):
    assert find(two_squares, item("only", 0.5, "anno_0/object_1")) is None
    assert render(two_squares, Masks(None), item("elsewhere", 0.5)) is None


def test_hidden_truth_and_no_prediction(two_squares):
    two_squares.truth = lambda video, expression: None
    case = render(two_squares, Masks(None), item("only", 0.0))
    assert [picture.predicted for picture in case.pictures] == [False] * 3


def test_frames_that_cannot_be_read_are_grey_and_said_to_be(two_squares):
    def images(video):
        raise UserError("frames/00000.jpg is missing")

    two_squares.images = images
    case = render(two_squares, Masks(Prediction(np.array(two_squares.masks[0]))), item("only", 1.0))
    assert "frames/00000.jpg is missing" in case.problem
    assert len(case.pictures) == 3


def test_a_data_uri_is_a_jpeg():
    picture = np.full((8, 16, 3), 90, dtype=np.uint8)
    head, data = jpeg_uri(picture).split(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (16, 8)
