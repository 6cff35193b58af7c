"""Change points and motion on constructed clips whose answers are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from refstream_projects.streamo.annotation.changes import (
    CHANGE_FLOOR,
    Span,
    colour_cumulative,
    colour_distance,
    find_changes,
    find_motion,
    moving_share,
    robust_threshold,
    runs,
    segments,
    small_picture,
)


def plain(*levels: int) -> np.ndarray:
    """One grey picture per level: (T, 16, 16, 3) uint8."""
    return np.stack([np.full((16, 16, 3), level, dtype=np.uint8) for level in levels])


def square(left: int, top: int = 8, side: int = 16, size: int = 64) -> np.ndarray:
    """A white square on black."""
    picture = np.zeros((size, size, 3), dtype=np.uint8)
    picture[top : top + side, left : left + side] = 255
    return picture


def changes(frames: np.ndarray, lag: int = 2, threshold: float | None = 0.01, fps: float = 4.0) -> list[Span]:
    cumulative = np.stack([colour_cumulative(frame) for frame in frames])
    return find_changes(cumulative, np.arange(len(frames)) / fps, lag, threshold)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(colour_distance(colour_cumulative(a), colour_cumulative(b)))


def test_the_distance_of_two_plain_pictures_is_that_of_their_values():
    for a, b in [(0, 255), (10, 60), (60, 10), (7, 7)]:
        first, second = plain(a, b)
        assert distance(first, second) == pytest.approx(abs(a - b) / 255, abs=1e-6)
    reddened = plain(50)[0].copy()
    reddened[..., 0] += 51  # one channel alone counts in full
    assert distance(plain(50)[0], reddened) == pytest.approx(0.2, abs=1e-6)


def test_the_distance_is_the_earth_movers_of_sorted_values():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 12, 10, 3), dtype=np.uint8)
    by_sorting = np.abs(
        np.sort(a.reshape(-1, 3).astype(float), 0) - np.sort(b.reshape(-1, 3).astype(float), 0)
    )
    assert distance(a, b) == pytest.approx(by_sorting.mean(0).max() / 255, abs=1e-5)


def test_what_moves_does_not_change_the_colours_and_what_comes_does():
    assert distance(square(0), square(40)) == 0
    assert distance(np.zeros((64, 64, 3), np.uint8), square(0)) == pytest.approx(16 * 16 / 64**2, abs=1e-6)
    cells = small_picture(square(0))[None], small_picture(square(40))[None]  # 2 x 2 pixels each
    assert moving_share(*cells)[0] == pytest.approx(2 * 64 / 32**2)
    assert moving_share(plain(20), plain(36))[0] == 0  # noise, not motion
    assert moving_share(plain(20), plain(37))[0] == 1


@pytest.mark.parametrize("lag", [1, 2, 3])
@pytest.mark.parametrize("cut", [1, 5, 9, 10, 11])
def test_a_cut_is_found_at_its_frame(lag, cut):
    frames = plain(*[20] * cut, *[200] * (12 - cut))
    assert changes(frames, lag) == [
        Span((cut - 1) / 4, cut / 4, pytest.approx(180 / 255, abs=1e-6)),
    ]


def test_a_slow_change_has_its_begin_and_end():
    frames = plain(*[20] * 5, 60, 100, 140, *[180] * 6)  # changes from frame 5 to frame 8
    for lag in (1, 2, 3):
        ((start_s, end_s),) = [(c.start_s, c.end_s) for c in changes(frames, lag)]
        assert (start_s, end_s) == (4 / 4, 8 / 4)


def test_a_change_too_slow_for_one_step_is_found_over_several():
    frames = plain(*[20] * 5, *range(22, 41, 2), *[40] * 6)  # 2 levels a frame
    assert changes(frames, lag=1, threshold=3 / 255) == []
    ((start_s, end_s),) = [(c.start_s, c.end_s) for c in changes(frames, lag=2, threshold=3 / 255)]
    assert start_s == pytest.approx(1.0, abs=0.26)
    assert end_s == pytest.approx(14 / 4, abs=0.26)


def test_two_cuts_are_two_unless_closer_than_the_lag():
    apart = plain(*[20] * 4, *[100] * 4, *[200] * 4)
    assert [c.end_s for c in changes(apart)] == [1.0, 2.0]
    close = plain(*[20] * 4, 100, *[200] * 6)
    assert [(c.start_s, c.end_s) for c in changes(close)] == [(0.75, 1.25)]


def test_a_quiet_or_short_video_has_no_change():
    assert changes(plain(*[20] * 10), threshold=None) == []
    assert changes(plain(20), threshold=None) == []


def test_the_threshold_adapts_to_how_restless_a_video_is():
    signal = np.array([0.1, 0.12, 0.08, 0.1, 0.5])
    assert robust_threshold(signal, 0.008) == pytest.approx(0.1 + 6 * 1.4826 * 0.02)
    assert robust_threshold(np.zeros(5), 0.008) == 0.008
    flicker = plain(*([20, 30] * 10), *([220, 230] * 10))
    assert len(changes(flicker, lag=1, threshold=CHANGE_FLOOR)) == 1  # all of it, as one
    ((start_s, end_s),) = [(c.start_s, c.end_s) for c in changes(flicker, lag=1, threshold=None)]
    assert (start_s, end_s) == (19 / 4, 20 / 4)


def test_motion_spans_go_from_rest_to_rest_and_bridge_short_pauses():
    lefts = [0, 0, 0, 4, 8, 12, 12, 12, 16, 20, *[20] * 8, 24, 28, 28]
    small = np.stack([small_picture(square(left)) for left in lefts])
    times = np.arange(len(lefts)) / 4
    spans = [(s.start_s, s.end_s) for s in find_motion(small, times, 0.5, None)]
    assert spans == [(0.5, 9 / 4), (17 / 4, 19 / 4)]
    spans = [(s.start_s, s.end_s) for s in find_motion(small, times, 0.25, None)]
    assert spans == [(0.5, 5 / 4), (7 / 4, 9 / 4), (17 / 4, 19 / 4)]
    assert find_motion(small[:1], times[:1], 1.0, None) == []


def test_runs():
    assert runs(np.array([], dtype=bool)) == []
    assert runs(np.array([True, True, False, True])) == [(0, 1), (3, 3)]


def test_segments_are_back_to_back_and_not_too_short():
    spans = [Span(t - 0.25, t, 0.5) for t in (0.5, 3.0, 3.5, 6.0, 9.75)]
    assert segments(spans, 10.0, 1.0) == [(0.0, 3.0), (3.0, 6.0), (6.0, 10.0)]
    assert segments([], 10.0, 1.0) == [(0.0, 10.0)]


def test_lengths_must_agree():
    cumulative = np.zeros((3, 3, 256), np.float32)
    with pytest.raises(ValueError, match="one time per frame, got lag 1, 3 frames and 2 times"):
        find_changes(cumulative, np.arange(2.0), 1, None)
    with pytest.raises(ValueError, match="lag >= 1"):
        find_changes(cumulative, np.arange(3.0), 0, None)
    with pytest.raises(ValueError, match="got 3 frames and 2 times"):
        find_motion(np.zeros((3, 4, 4, 3), np.uint8), np.arange(2.0), 1.0, None)
