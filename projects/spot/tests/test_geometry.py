"""Grids, rectangles of masks, labels of points: values counted by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from refstream_projects.spot.geometry import (
    GridRule,
    box_centre,
    box_size,
    clip_box,
    grid_fractions,
    grid_points,
    jitter_box,
    mask_box,
    mask_centroid,
    point_labels,
    to_square,
)

BOX = torch.tensor([0.2, 0.1, 0.7, 0.9])


def plane(rows: slice, columns: slice, height: int = 40, width: int = 80) -> torch.Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("centres", [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("inclusive", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("inner", [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6]),
    ],
)
def test_places_along_a_side(rule: GridRule, expected: Any) -> None:
    assert grid_fractions(5, rule).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("rule", "spread"), [("centres", 0.08), ("inclusive", 0.125), ("inner", 1 / 18)])
def test_the_spread_of_a_grid_grows_with_the_square_of_the_box(rule: GridRule, spread: float) -> None:
    points = grid_points(BOX.double(), 5, rule)
    variance = (points - points.mean(0)).square().mean(0)
    assert variance.tolist() == pytest.approx([spread * 0.5**2, spread * 0.8**2])


def test_points_go_row_by_row_inside_the_box() -> None:
    points = grid_points(BOX)
    assert points.shape == (25, 2)
    assert points.dtype == torch.float32
    assert points[0].tolist() == pytest.approx([0.25, 0.18])
    assert points[1].tolist() == pytest.approx([0.35, 0.18])
    assert points[5].tolist() == pytest.approx([0.25, 0.34])
    assert points[24].tolist() == pytest.approx([0.65, 0.82])
    assert points.mean(0).tolist() == pytest.approx(box_centre(BOX).tolist())


def test_a_grid_is_affine_in_its_box() -> None:
    boxes = torch.rand(3, 2, 4, dtype=torch.float64, requires_grad=True)
    points = grid_points(boxes, 4, "inner")
    assert points.shape == (3, 2, 16, 2)
    assert torch.autograd.gradcheck(lambda b: grid_points(b, 3), (boxes,))
    assert torch.allclose(grid_points(2 * boxes + 1, 4, "inner"), 2 * points + 1)


def test_bad_grids() -> None:
    with pytest.raises(ValueError, match="one of"):
        grid_points(BOX, 5, "corners")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2"):
        grid_points(BOX, 1, "inclusive")
    with pytest.raises(ValueError, match="xyxy"):
        grid_points(torch.zeros(3))
    with pytest.raises(ValueError, match="floating"):
        grid_points(torch.zeros(4, dtype=torch.int64))
    assert grid_points(BOX, 1).tolist() == [pytest.approx(box_centre(BOX).tolist())]


def test_the_box_of_a_mask_is_that_of_its_outer_edges() -> None:
    box = mask_box(plane(slice(10, 20), slice(8, 24)))
    assert box is not None
    assert box.dtype == torch.float32
    assert box.tolist() == pytest.approx([0.1, 0.25, 0.3, 0.5])
    whole = mask_box(plane(slice(None), slice(None)))
    assert whole is not None
    assert whole.tolist() == [0, 0, 1, 1]
    pixel = mask_box(plane(slice(39, 40), slice(79, 80)).float())
    assert pixel is not None
    assert box_size(pixel).tolist() == pytest.approx([1 / 80, 1 / 40], abs=1e-6)
    assert mask_box(plane(slice(0, 0), slice(0, 0))) is None
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        mask_box(torch.ones(1, 4, 4))


def test_centroid() -> None:
    mask = plane(slice(0, 10), slice(0, 20)) | plane(slice(0, 10), slice(60, 80))
    middle = mask_centroid(mask)
    assert middle is not None
    assert middle.tolist() == pytest.approx([0.5, 0.125])
    assert mask_centroid(torch.zeros(4, 4)) is None
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        mask_centroid(torch.ones(4))


def test_points_are_read_at_the_pixel_that_covers_them() -> None:
    mask = plane(slice(10, 20), slice(8, 24))
    x0, x1 = 8 / 80, 24 / 80
    points = torch.tensor(
        [[x0 + 1e-4, 0.3], [x0 - 1e-4, 0.3], [x1 - 1e-4, 0.3], [x1 + 1e-4, 0.3], [0.2, 0.2499], [0.2, 0.2501]]
    )
    assert point_labels(mask, points).tolist() == [1, 0, 1, 0, 0, 1]
    corner = plane(slice(39, 40), slice(79, 80))
    assert point_labels(corner, torch.tensor([[1.0, 1.0], [1.5, 2.0], [0.98, 0.99]])).tolist() == [1, 1, 0]
    assert point_labels(mask, torch.zeros(2, 3, 2)).shape == (2, 3)
    with pytest.raises(ValueError, match="points"):
        point_labels(mask, torch.zeros(3))


def test_the_square_of_the_segmenter() -> None:
    assert to_square(BOX, 1024).tolist() == pytest.approx([204.8, 102.4, 716.8, 921.6])
    assert to_square(torch.tensor([[0.5, 1.0]]), 64).tolist() == [[32, 64]]
    with pytest.raises(ValueError, match="positive size"):
        to_square(BOX, 0)


def test_moved_boxes_stay_near_and_in_the_frame() -> None:
    boxes = torch.tensor([[0.2, 0.1, 0.7, 0.9], [0.0, 0.0, 1.0, 1.0]]).repeat(200, 1)
    moved = jitter_box(boxes, 0.1, torch.Generator().manual_seed(0))
    reach = 0.1 * torch.cat((box_size(boxes), box_size(boxes)), 1)
    assert bool(((moved - boxes).abs() <= reach + 1e-6).all())
    assert bool((moved >= 0).all() and (moved <= 1).all() and (box_size(moved) > 0).all())
    shift = (moved - boxes)[0::2] / reach[0::2]  # a box that is not clipped: uniform in [-1, 1]
    assert shift.mean().abs() < 0.1
    assert shift.std() == pytest.approx(3**-0.5, abs=0.05)
    assert torch.equal(moved, jitter_box(boxes, 0.1, torch.Generator().manual_seed(0)))
    assert torch.equal(jitter_box(boxes, 0.0), boxes)
    with pytest.raises(ValueError, match=r"0\.5"):
        jitter_box(boxes, 0.5)


def test_a_box_outside_of_the_frame_has_no_area() -> None:
    assert clip_box(torch.tensor([-0.5, 0.2, 0.5, 1.5])).tolist() == pytest.approx([0, 0.2, 0.5, 1])
    assert box_size(clip_box(torch.tensor([1.2, 0.2, 1.5, 0.6])))[0] == 0
