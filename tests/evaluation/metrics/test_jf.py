"""J and F of simple shapes; expected values are those of the official DAVIS-2017 code."""

from __future__ import annotations

import numpy as np
import pytest

from refstream.evaluation.metrics.jf import contour_accuracy, j_and_f, region_similarity, tolerance

SIZE = 480, 854


def _empty():
    return np.zeros(SIZE, dtype=bool)


def _rect(y0, y1, x0, x1, size=SIZE):
    mask = np.zeros(size, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def _disk(y, x, radius):
    rows, cols = np.ogrid[: SIZE[0], : SIZE[1]]
    return (rows - y) ** 2 + (cols - x) ** 2 <= radius**2


def _noise():
    return np.random.default_rng(0).random((2, 120, 160)) < 0.5


@pytest.mark.parametrize(
    ("gt", "result", "j", "f"),
    [
        (_empty(), _empty(), 1, 1),
        (_empty(), _rect(10, 20, 10, 20), 0, 0),
        (_rect(10, 20, 10, 20), _empty(), 0, 0),
        (~_empty(), ~_empty(), 1, 1),
        (~_empty(), _empty(), 0, 1),  # a full mask has no boundary
        (_disk(240, 427, 100), _disk(240, 431, 100), 0.950457861244762, 1),
        (_disk(240, 427, 100), _disk(240, 435, 100), 0.903426130683711, 1),
        (_disk(240, 427, 100), _disk(240, 436, 100), 0.892020475760313, 0.783582089552239),
        (_disk(240, 427, 100), _disk(240, 447, 100), 0.775021893273821, 0.256218905472637),
        (_rect(0, 200, 0, 300), _rect(0, 210, 0, 290), 0.922098569157393, 0.034068136272545),
        (_rect(200, 201, 100, 700), _rect(203, 204, 100, 700), 0, 1),
        (_rect(100, 101, 100, 101), _rect(100, 101, 108, 109), 0, 1),
        (_rect(100, 101, 100, 101), _rect(100, 101, 109, 110), 0, 0.5),
        (
            _rect(10, 40, 10, 60, (60, 80)),
            _rect(11, 42, 10, 61, (60, 80)),
            0.889025137952177,
            0.688219663418955,
        ),
        (_noise()[0], _noise()[1], 0.336150300321274, 1),
    ],
)
def test_official_values(gt, result, j, f):
    assert region_similarity(gt, result) == pytest.approx(j, abs=1e-14)
    assert contour_accuracy(gt, result) == pytest.approx(f, abs=1e-14)


@pytest.mark.parametrize(
    ("size", "radius"),
    [((480, 854), 8), ((480, 910), 9), ((720, 1280), 12), ((1080, 1920), 18), ((240, 320), 4)],
)
def test_tolerance(size, radius):
    assert tolerance(size) == radius
    assert tolerance(size, 3) == 3


def test_cropping_changes_nothing():
    """F from the boundary's box equals F by distances from every pixel to every boundary pixel."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        size = tuple(rng.integers(1, 30, size=2))
        gt, result = rng.random((2, *size)) < 0.1
        assert contour_accuracy(gt, result, bound_th=2) == pytest.approx(_slow_f(gt, result, 2), abs=1e-14)


def _slow_f(gt, result, radius):
    points = []
    for mask in (gt, result):
        padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
        here = padded[:-1, :-1]
        differs = (here != padded[1:, :-1]) | (here != padded[:-1, 1:]) | (here != padded[1:, 1:])
        points.append(np.argwhere(differs))
    if not len(points[0]) or not len(points[1]):
        return float(len(points[0]) == len(points[1]))
    distance_sq = ((points[0][:, None] - points[1][None]) ** 2).sum(-1)
    recall = (distance_sq.min(1) <= radius**2).mean()
    precision = (distance_sq.min(0) <= radius**2).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_clip_is_mean_over_frames():
    gt = np.stack([_rect(0, 10, 0, 10), _empty()])
    result = np.stack([_rect(0, 10, 0, 5), _empty()])
    assert region_similarity(gt, result).tolist() == [0.5, 1.0]
    scores = j_and_f(gt, result)
    assert scores.j == 0.75
    assert scores.mean == (scores.j + scores.f) / 2


def test_void_pixels_do_not_count():
    gt, result, void = _rect(0, 10, 0, 10), _rect(0, 10, 0, 5), _rect(0, 10, 5, 20)
    assert region_similarity(gt, result, void) == 1
    assert contour_accuracy(gt, result, void) == 1


@pytest.mark.parametrize(
    ("gt", "result"),
    [
        (np.zeros((4, 4), dtype=np.uint8), np.zeros((4, 4), dtype=bool)),
        (np.zeros((4, 4), dtype=bool), np.zeros((4, 5), dtype=bool)),
        (np.zeros((0, 4), dtype=bool), np.zeros((0, 4), dtype=bool)),
    ],
)
def test_bad_masks_are_refused(gt, result):
    for metric in (region_similarity, contour_accuracy):
        with pytest.raises(ValueError, match=r"mask|shape"):
            metric(gt, result)


@pytest.mark.parametrize("bound_th", [0, -1, 2.5])
def test_bad_tolerance_is_refused(bound_th):
    with pytest.raises(ValueError, match="bound_th"):
        contour_accuracy(_empty(), _empty(), bound_th=bound_th)
