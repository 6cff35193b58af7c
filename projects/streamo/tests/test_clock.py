"""Tags and frames of intervals against closed forms, at true and broken frame rates."""

from __future__ import annotations

from fractions import Fraction

import pytest
from refstream_projects.streamo.clock import TOLERANCE_S, StreamClock, seconds_text

RATES = [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60000, 1001), Fraction(25), Fraction(15)]


@pytest.mark.parametrize(
    ("fps", "index", "label"),
    [
        (1, 3, "<3s-4s>"),
        (0.5, 0, "<0s-2s>"),
        (2, 1, "<0.5s-1s>"),
        (2, 2, "<1s-1.5s>"),
        (3, 1, "<0.333s-0.667s>"),
    ],
)
def test_labels_are_seconds_at_any_rate(fps, index, label):
    assert StreamClock(fps).label(index) == label


def test_seconds_never_turn_into_exponents():
    assert [seconds_text(t) for t in (0, 1.50, 100, 100000, 0.001)] == ["0", "1.5", "100", "100000", "0.001"]


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1000])
def test_impossible_rates_are_refused(fps):
    with pytest.raises(ValueError, match="fps"):
        StreamClock(fps)


@pytest.mark.parametrize(
    ("duration", "fps", "count"), [(10, 1, 10), (10.01, 1, 11), (10.0004, 1, 10), (10, 0.5, 5), (9.1, 2, 19)]
)
def test_a_last_interval_that_is_not_full_counts(duration, fps, count):
    assert StreamClock(fps).intervals(duration) == count


@pytest.mark.parametrize(("time", "inside", "after"), [(5, 5, 5), (5.5, 5, 6), (4.9995, 5, 5), (0, 0, 0)])
def test_the_interval_of_a_time(time, inside, after):
    assert (StreamClock().interval_at(time), StreamClock().first_from(time)) == (inside, after)


@pytest.mark.parametrize("native", RATES)
@pytest.mark.parametrize("fps", [0.5, 1, 2])
def test_tags_stay_within_one_frame_of_the_truth_for_ten_minutes(native, fps):
    times = [float(Fraction(k) / native) for k in range(int(600 * native))]
    clock = StreamClock(fps)
    frames = clock.frames(times)
    assert len(frames) == 600 * fps
    for k, frame in enumerate(frames):
        assert -TOLERANCE_S <= times[frame] - k / fps < 1 / native
        assert k == 0 or times[frame - 1] < k / fps - TOLERANCE_S  # the first such frame


def test_a_gap_is_bridged_by_the_next_frame_and_the_end_is_an_error():
    times = [0.0, 0.5, 3.2, 3.7]
    assert StreamClock().frames(times) == [0, 2, 2, 2]
    with pytest.raises(ValueError, match=r"<4s-5s> begins after the video.*3\.700"):
        StreamClock().frame_of(4, times)
    with pytest.raises(ValueError, match="no frame"):
        StreamClock().frame_of(0, [])
    assert StreamClock().frames([]) == []
