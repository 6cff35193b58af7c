"""Frame sampling: counts, order, the exact rule for short videos, and the whole range reached."""

import numpy as np
import pytest

from refstream.data.sampling import choose_frames

RULES = ["random_sorted", "contiguous", "dilated"]


def draws(num_available: int, num: int, how: str, times: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([choose_frames(num_available, num, how, rng) for _ in range(times)])


@pytest.mark.parametrize("how", RULES)
@pytest.mark.parametrize("num_available", [1, 2, 5, 6, 7, 40])
@pytest.mark.parametrize("num", [1, 2, 5])
def test_frames_are_sorted_valid_and_of_the_number_asked(how, num_available, num):
    frames = draws(num_available, num, how, 50)
    assert frames.shape == (50, num)
    assert frames.dtype == np.int64
    assert frames.min() >= 0
    assert frames.max() < num_available
    assert (np.diff(frames, axis=1) >= 0).all()


@pytest.mark.parametrize("how", RULES)
def test_the_generator_alone_decides(how):
    first, second = (choose_frames(30, 5, how, np.random.default_rng(7)) for _ in range(2))
    assert (first == second).all()


def test_random_frames_repeat_up_to_one_more_frame_than_asked_and_not_beyond():
    assert any(len(set(row)) < 5 for row in draws(6, 5, "random_sorted"))
    assert all(len(set(row)) == 5 for row in draws(7, 5, "random_sorted"))
    assert set(draws(7, 5, "random_sorted").ravel()) == set(range(7))


def test_contiguous_frames_are_neighbours_from_any_start():
    frames = draws(9, 5, "contiguous")
    assert (np.diff(frames, axis=1) == 1).all()
    assert set(frames[:, 0]) == {0, 1, 2, 3, 4}


def test_dilated_frames_keep_one_stride_and_every_stride_that_fits_occurs():
    frames = draws(14, 5, "dilated")
    strides = np.diff(frames, axis=1)
    assert (strides == strides[:, :1]).all()
    assert set(strides[:, 0]) == {1, 2, 3}
    assert set(frames[strides[:, 0] == 3][:, 0]) == {0, 1}


@pytest.mark.parametrize("how", ["contiguous", "dilated"])
def test_a_short_video_repeats_its_last_frame(how):
    assert (draws(3, 5, how, 20) == [0, 1, 2, 2, 2]).all()
    assert (draws(5, 5, how, 20) == [0, 1, 2, 3, 4]).all()


@pytest.mark.parametrize(
    ("num_available", "num", "how", "message"),
    [
        (0, 5, "contiguous", "at least one frame, got 0"),
        (9, 0, "contiguous", "num_frames = 0"),
        (9, 5, "uniform", "random_sorted, contiguous, dilated, got 'uniform'"),
    ],
)
def test_errors_say_what_was_expected(num_available, num, how, message):
    with pytest.raises(ValueError, match=message):
        choose_frames(num_available, num, how, np.random.default_rng(0))
