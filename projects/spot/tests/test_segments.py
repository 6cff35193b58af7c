"""Segments: how clips are cut, and what an object is in each of their frames."""

from __future__ import annotations

import pytest
import torch
from refstream_projects.spot.segments import cut, object_segment


def square(t: int, count: int, hidden: tuple[int, ...] = ()) -> torch.Tensor:
    """(20, 40) mask of a 10 x 4 box whose left edge is at 2 t."""
    mask = torch.zeros(20, 40, dtype=torch.bool)
    if t not in hidden:
        mask[5:9, 2 * t : 2 * t + 10] = True
    return mask


def clip(count: int, hidden: tuple[int, ...] = ()) -> torch.Tensor:
    return torch.stack([square(t, count, hidden) for t in range(count)])


@pytest.mark.parametrize("phase", range(8))
@pytest.mark.parametrize("count", [1, 7, 8, 9, 20, 24])
def test_segments_cover_every_frame_once(count: int, phase: int) -> None:
    parts = cut(count, 8, phase)
    assert [t for part in parts for t in part] == list(range(count))
    assert all(len(part) == 8 for part in parts[1:-1])
    assert all(1 <= len(part) <= 8 for part in parts)
    if 0 < phase < count:
        assert len(parts[0]) == phase


def test_the_last_segment_keeps_what_is_left() -> None:
    assert [len(part) for part in cut(20, 8)] == [8, 8, 4]
    assert [len(part) for part in cut(20, 8, 3)] == [3, 8, 8, 1]
    assert [len(part) for part in cut(8, 8)] == [8]


@pytest.mark.parametrize(("count", "length", "phase"), [(0, 8, 0), (8, 0, 0), (8, 8, 8), (8, 8, -1)])
def test_bad_cuts(count: int, length: int, phase: int) -> None:
    with pytest.raises(ValueError, match="num_frames >= 1"):
        cut(count, length, phase)


def test_the_truth_of_a_moving_square() -> None:
    found = object_segment(clip(8))
    assert bool(found.visible.all())
    assert found.alphas.tolist() == pytest.approx([t / 7 for t in range(8)])
    assert found.boxes[3].tolist() == pytest.approx([6 / 40, 5 / 20, 16 / 40, 9 / 20])
    assert found.centres[3].tolist() == pytest.approx([11 / 40, 7 / 20])


def test_ends_move_inward_and_alpha_is_counted_anew() -> None:
    found = object_segment(clip(8, hidden=(0, 4, 7)))
    assert found.visible.tolist() == [False, True, True, True, False, True, True, False]
    expected = [None, 0.0, 0.2, 0.4, None, 0.8, 1.0, None]
    for alpha, wanted in zip(found.alphas.tolist(), expected, strict=True):
        assert alpha != alpha if wanted is None else alpha == pytest.approx(wanted)
    assert bool(found.boxes[4].isnan().all())


@pytest.mark.parametrize("hidden", [(0, 1, 2, 3, 4, 5, 6, 7), (0, 1, 2, 3, 4, 5), (2, 3, 4, 5, 6, 7)])
def test_with_less_than_three_visible_frames_there_is_no_bridge(hidden: tuple[int, ...]) -> None:
    assert bool(object_segment(clip(8, hidden)).alphas.isnan().all())


def test_a_still_is_a_segment() -> None:
    found = object_segment(clip(1))
    assert len(found) == 1
    assert bool(found.alphas.isnan().all())
    assert found.boxes[0].tolist() == pytest.approx([0, 0.25, 0.25, 0.45])


def test_the_centre_may_be_that_of_the_mask() -> None:
    mask = torch.zeros(1, 4, 8, dtype=torch.bool)
    mask[0, 0, :4] = True
    mask[0, 1, 0] = True
    assert object_segment(mask).centres[0].tolist() == pytest.approx([0.25, 0.25])
    # pixels at x (0.5 + 1.5 + 2.5 + 3.5 + 0.5) / 5 of 8 and y (4 * 0.5 + 1.5) / 5 of 4
    assert object_segment(mask, centre="mask").centres[0].tolist() == pytest.approx([1.7 / 8, 0.7 / 4])


def test_times_need_not_be_even() -> None:
    found = object_segment(clip(4), times=torch.tensor([0.0, 1.0, 3.0, 4.0]))
    assert found.alphas.tolist() == pytest.approx([0, 0.25, 0.75, 1])


def test_bad_segments() -> None:
    with pytest.raises(ValueError, match="centre must be one of"):
        object_segment(clip(2), centre="middle")
    with pytest.raises(ValueError, match=r"must be \(T_s, H, W\)"):
        object_segment(torch.zeros(4, 4, dtype=torch.bool))
