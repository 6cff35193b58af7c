"""J and F of simple shapes; expected values are those of the official DAVIS-2017 code."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from refstream.evaluation.metrics.iou import mask_iou
from refstream.evaluation.metrics.jf import (
    contour_accuracy,
    frame_scores,
    j_and_f,
    region_similarity,
    tolerance,
)
from refstream.evaluation.metrics.mask_pairs import fuzz_pairs, labelled_frames
from refstream.evaluation.metrics.official import VARIABLE, load_official

SIZE = 480, 854
ROOT = Path(__file__).resolve().parents[3]
REAL = ROOT.parent / "shared" / "data" / "davis17_osvos_predictions" / "results"
OFFICIAL = os.environ.get(VARIABLE)
needs_official = pytest.mark.skipif(not OFFICIAL, reason=f"{VARIABLE} names no clone of the DAVIS-2017 code")


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
        (_disk(240, 427, 100), _disk(240, 427, 106), 0.890883312065788, 1),
        (_disk(240, 427, 100), _rect(152, 329, 339, 516), 0.834195679499547, 0.480139372822300),
        (_rect(400, 480, 800, 854), _rect(396, 480, 805, 854), 0.868024800708592, 1),
        (_disk(120, 200, 60), _disk(360, 600, 60), 0, 0),  # far apart
        (_disk(240, 200, 60) | _disk(240, 650, 60), _disk(240, 200, 60), 0.5, 0.666666666666667),
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


def test_frames_are_equal_to_brute_force():
    """``frame_scores`` on masks of all sizes and kinds, against distances of all pairs of boundary pixels."""
    sizes = set()
    for pair in fuzz_pairs(150, seed=3, largest=(30, 70)):
        radius = tolerance(pair.gt.shape, pair.bound_th)
        counted = np.ones_like(pair.gt) if pair.void is None else ~pair.void
        j, f = frame_scores(pair.gt, pair.result, pair.void, pair.bound_th)
        assert j.shape == f.shape == (1,)
        assert f[0] == pytest.approx(_slow_f(pair.gt & counted, pair.result & counted, radius), abs=1e-14), (
            pair
        )
        union = (pair.gt | pair.result) & counted
        inter = pair.gt & pair.result & counted
        assert j[0] == (inter.sum() / union.sum() if union.any() else 1), pair.name
        sizes.add(pair.gt.shape)
    assert {1, 2} <= {height for height, _ in sizes} & {width for _, width in sizes}


@needs_official
def test_random_masks_equal_the_official_code():
    official = load_official(OFFICIAL)
    for pair in fuzz_pairs(400, seed=11):
        j, f = frame_scores(pair.gt, pair.result, pair.void, pair.bound_th)
        assert (j[0], f[0]) == official.scores(pair.gt, pair.result, pair.void, pair.bound_th), pair.name


@needs_official
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/davis17_osvos_predictions")
def test_real_masks_equal_the_official_code():
    official = load_official(OFFICIAL)
    folders = REAL / "semi-supervised" / "osvos", REAL / "unsupervised" / "rvos"
    pairs = list(labelled_frames(*folders, objects=True, every=60))
    assert len(pairs) > 30
    for pair in pairs:
        j, f = frame_scores(pair.gt, pair.result)
        assert (j[0], f[0]) == official.scores(pair.gt, pair.result), pair.name


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/davis17_osvos_predictions")
@pytest.mark.parametrize(
    ("video", "j", "f"),
    [
        ("blackswan", 0.93344, 0.95299),
        ("camel", 0.84406, 0.85907),
        ("dogs-jump", 0.77417, 0.87962),
        ("bike-packing", 0.53546, 0.57671),
        ("bmx-trees", 0.25281, 0.45444),
    ],
)
def test_real_videos(video, j, f):
    """Foreground of every 8th frame, OSVOS as truth and RVOS as result; values of the official code."""
    folders = REAL / "semi-supervised" / "osvos", REAL / "unsupervised" / "rvos"
    frames = [pair for pair in labelled_frames(*folders, video=video) if int(Path(pair.name).name) % 8 == 0]
    gt, result = np.stack([pair.gt for pair in frames]), np.stack([pair.result for pair in frames])
    scores = j_and_f(gt, result)
    assert scores.j == pytest.approx(j, abs=5e-6)
    assert scores.f == pytest.approx(f, abs=5e-6)


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


def test_one_pass_gives_both():
    rng = np.random.default_rng(2)
    gt, result, void = rng.random((3, 4, 30, 70)) < 0.3
    for extra in (None, void):
        j, f = frame_scores(gt, result, extra)
        assert j.dtype == f.dtype == np.float64
        assert (
            j.tolist()
            == region_similarity(gt, result, extra).tolist()
            == mask_iou(gt, result, extra).tolist()
        )
        assert f.tolist() == contour_accuracy(gt, result, extra).tolist()
        j0, f0 = frame_scores(gt[0], result[0], None if extra is None else extra[0])
        assert (j0.tolist(), f0.tolist()) == ([j[0]], [f[0]])


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
    for metric in (region_similarity, contour_accuracy, frame_scores):
        with pytest.raises(ValueError, match=r"mask|shape"):
            metric(gt, result)


@pytest.mark.parametrize("bound_th", [0, -1, 2.5])
def test_bad_tolerance_is_refused(bound_th):
    with pytest.raises(ValueError, match="bound_th"):
        contour_accuracy(_empty(), _empty(), bound_th=bound_th)
