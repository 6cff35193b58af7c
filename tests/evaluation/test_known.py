from __future__ import annotations

import numpy as np

from refstream.evaluation.known import KnownPredictions, delayed, eroded, shifted, swapped
from refstream.evaluation.protocols.families import Families
from refstream.evaluation.score import score


def overall_j(benchmark, predictions):
    return Families().summarize(benchmark, score(benchmark, predictions, Families()))["overall"]["J"]


def test_the_truth_scores_100(two_squares):
    assert overall_j(two_squares, KnownPredictions(two_squares)) == 100


def test_what_each_spoiling_costs(two_squares):
    large, small = two_squares.masks[0, :1], two_squares.masks[1]
    moved = shifted(5)(large)
    assert (large & moved).sum() / (large | moved).sum() == 15 / 25  # a square of 20
    assert eroded(2)(large).sum() == 16 * 16
    assert not shifted(100)(large).any()
    late = delayed(1)(small)
    np.testing.assert_array_equal(late, small[[0, 0, 1]])


def test_a_mask_at_the_border_is_eroded_inside_only():
    masks = np.zeros((1, 10, 10), dtype=bool)
    masks[0, :, :6] = True
    assert eroded(1)(masks).sum() == 10 * 5


def test_absent_and_exchanged(two_squares):
    (video,) = two_squares.videos
    absent = KnownPredictions(two_squares, absent=frozenset({("only", "2")}))
    assert overall_j(two_squares, absent) == 75  # the family of the absent expression weighs a quarter
    for e, number in zip(video.expressions, (1, 2, 2), strict=True):
        e.details["object"] = number
    two_squares.videos = [video]
    exchanged = swapped(two_squares)
    assert exchanged == {("only", "0"): "1", ("only", "1"): "0", ("only", "2"): "2"}
    assert overall_j(two_squares, KnownPredictions(two_squares, instead=exchanged)) == 25
