"""Timing of events against values worked out by hand, and the matching against all ways to match."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from refstream.evaluation.metrics.timing import (
    Timed,
    Timing,
    match_events,
    same_words,
    span_iou,
    span_of,
    timing,
    total,
)


def at(*times: float) -> list[Timed]:
    return [Timed(time) for time in times]


def best(said: list[float], due: list[float], limit: float) -> tuple[int, float]:
    """The most pairs within the limit and the least sum of |delay| among these, by trying all matchings."""
    found = (0, 0.0)
    for size in range(1, min(len(said), len(due)) + 1):
        for rows in itertools.combinations(range(len(said)), size):
            for columns in itertools.permutations(range(len(due)), size):
                delays = [abs(said[r] - due[c]) for r, c in zip(rows, columns, strict=True)]
                if max(delays) <= limit and (size > found[0] or sum(delays) < found[1]):
                    found = (size, sum(delays))
    return found


def test_hand_worked():
    """Due 2, 10, 20, 30, 40; said 2.5 (hit), 9 (hit, on the edge), 24 (late), 27 (early), 60 (extra)."""
    found = timing(at(2.5, 9.0, 24.0, 27.0, 60.0), at(2, 10, 20, 30, 40))
    assert (found.hits, found.early, found.late, found.missed, found.extra) == (2, 1, 1, 1, 1)
    assert found.precision == pytest.approx(2 / 5)
    assert found.recall == pytest.approx(2 / 5)
    assert found.f1 == pytest.approx(2 / 5)
    assert found.delays_s == pytest.approx([0.5, -1.0, 4.0, -3.0])
    assert found.delay_s(50) == pytest.approx(-0.25)
    assert found.delay_s(95) == pytest.approx(0.5 + 0.85 * 3.5)


def test_uneven_numbers():
    found = timing(at(1.0, 1.1, 1.2), at(1.0))
    assert (found.hits, found.extra, found.missed) == (1, 2, 0)
    assert (found.precision, found.recall, found.f1) == pytest.approx((1 / 3, 1.0, 0.5))
    assert timing(at(1.0), at(1.0, 1.1, 1.2)).f1 == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("said", "due", "expected"),
    [((), (), (1, 1, 1)), ((), (1,), (0, 0, 0)), ((1,), (), (0, 0, 0))],
)
def test_nothing_said_or_due(said, due, expected):
    found = timing(at(*said), at(*due))
    assert (found.precision, found.recall, found.f1) == expected
    assert found.text_accuracy is None
    assert found.delay_s(50) is None
    assert "delay_p50_s" not in found.figures()


def test_the_tolerance_counts_to_its_edge():
    assert timing(at(6.0), at(5.0)).hits == 1
    assert timing(at(0.1 + 0.2), at(0.3), delta_s=0, reach_s=0).hits == 1, "times of frames are rounded"
    beyond = timing(at(6.01), at(5.0))
    assert (beyond.hits, beyond.late) == (0, 1)
    assert timing(at(10.0), at(5.0)).late == 1
    assert timing(at(10.01), at(5.0)).extra == 1


def test_as_many_as_possible_before_as_near_as_possible():
    """2.1 is nearest to 2, but then 1.2 stays alone; both pairs together are worse in sum and yet taken."""
    pairs = match_events(at(2.1, 2.9), at(1.2, 2.0))
    assert [(p.said, p.due) for p in pairs] == [(0, 0), (1, 1)]
    # a hit is never given up for a pair that is merely within reach
    found = timing(at(5.0, 8.0), at(5.4, 1.0))
    assert (found.hits, found.late, found.missed, found.extra) == (1, 0, 1, 1)


def test_matching_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for _ in range(60):
        said, due = (np.round(rng.uniform(0, 6, rng.integers(0, 5)), 2).tolist() for _ in range(2))
        pairs = [pair for pair in match_events(at(*said), at(*due)) if pair.hit]
        number, cost = best(said, due, 1.0 + 1e-6)
        assert len(pairs) == number, (said, due)
        assert sum(abs(pair.delay_s) for pair in pairs) == pytest.approx(cost), (said, due)
        found = timing(at(*said), at(*due))
        assert found.hits + found.early + found.late + found.missed == len(due)
        assert found.hits + found.early + found.late + found.extra == len(said)
        assert min(found.missed, found.extra) >= 0


def test_a_shift_moves_all_delays():
    times = np.arange(0, 200, 10.0)
    for shift, hits in ((0.0, 20), (0.9, 20), (-0.9, 20), (1.5, 0), (-4.0, 0)):
        found = timing(at(*(times + shift)), at(*times))
        assert found.hits == hits
        assert found.delay_s(50) == pytest.approx(shift)
        assert found.late == (20 if shift > 1 else 0)
        assert found.early == (20 if shift < -1 else 0)


def test_words():
    due = [Timed(1, "The light is red."), Timed(5, "two")]
    said = [Timed(1, "the  light is RED"), Timed(5, "three"), Timed(20, "two")]
    found = timing(said, due, same=same_words)
    assert (found.hits, found.right) == (2, 1)
    assert found.text_accuracy == 0.5
    assert found.f1 == pytest.approx(4 / 5)
    assert found.f1_text == pytest.approx(2 / 5)
    assert timing(said, due).right == 2, "words were not compared"


def test_counts_add_up():
    one, two = timing(at(1, 9), at(1)), timing(at(), at(3, 4))
    both = total([one, two])
    assert (both.due, both.said, both.hits, both.missed, both.extra) == (3, 2, 1, 2, 1)
    assert both.delays_s == [0.0]
    assert total([]) == Timing()
    figures = both.figures()
    assert figures["precision"] == 50
    assert figures["recall"] == pytest.approx(100 / 3)
    assert figures["missed"] == 2


def test_spans():
    assert span_of("<3s-6s>") == (3, 6)
    assert span_of("it was at <2.5s-4s>, at last") == (2.5, 4)
    assert span_of("3s to 6s") == (3, 6)
    assert span_of("<3s-6s> and <7s-8s>") is None
    assert span_of("<6s-3s>") is None
    assert span_iou("<3s-6s>", "<4s-8s>") == pytest.approx(2 / 5)
    assert span_iou("<0s-1s>", "<4s-8s>") == 0
    assert span_iou("no idea", "<4s-8s>") == 0
    assert span_iou("<4s-8s>", "it turns red") is None
    assert span_iou("<4s-4s>", "<4s-4s>") == 1


def test_wrong_requests():
    with pytest.raises(ValueError, match="must be finite"):
        Timed(float("nan"))
    with pytest.raises(ValueError, match=r"0 <= delta_s <= reach_s, got 2\.0 and 1\.0"):
        match_events([], [], delta_s=2.0, reach_s=1.0)
