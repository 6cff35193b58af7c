"""Boxes and points of a frame, all in [0, 1] relative to its width and height: x right, y down.

A pixel with indices (column, row) covers [column / W, (column + 1) / W] x [row / H, (row + 1) / H]. So the
box of a mask that fills the frame is (0, 0, 1, 1), and the pixel below a point is floor(x W), floor(y H).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

GRID_SIZE = 5  # paper: a 5 x 5 grid, K = 25
GRID_RULES = ("centres", "inclusive", "inner")

GridRule = Literal["centres", "inclusive", "inner"]


def grid_fractions(size: int = GRID_SIZE, rule: GridRule = "centres") -> Tensor:
    """(size,) float64 places along a side of the box, in [0, 1].

    Args:
        size: Points per side, at least 1.
        rule: "centres": (i + 1/2) / size, centres of equal cells. "inclusive": i / (size - 1), the first and
            the last on the border. "inner": (i + 1) / (size + 1). The paper says only "5 x 5" (assumed:
            centres).

    Raises:
        ValueError: For an unknown rule, or too few points for it.
    """
    if rule not in GRID_RULES:
        raise ValueError(f"the rule of a grid must be one of {GRID_RULES}, got {rule!r}")
    least = 2 if rule == "inclusive" else 1
    if size < least:
        raise ValueError(f"a side of a grid {rule!r} needs at least {least} points, got {size}")
    steps = torch.arange(size, dtype=torch.float64)
    if rule == "centres":
        return (steps + 0.5) / size
    return steps / (size - 1) if rule == "inclusive" else (steps + 1) / (size + 1)


def grid_points(boxes: Tensor, size: int = GRID_SIZE, rule: GridRule = "centres") -> Tensor:
    """Points of a regular grid in each box, an affine function of the box (gradients pass).

    Args:
        boxes: (..., 4) floating xyxy.
        size: Points per side.
        rule: As of ``grid_fractions``.

    Returns:
        (..., K, 2) x, y with K = size * size, row by row from the upper left, in the dtype of ``boxes``.

    Raises:
        ValueError: For a bad shape, size or rule.
    """
    _check_boxes(boxes)
    at = grid_fractions(size, rule).to(boxes)
    low, high = boxes[..., None, :2], boxes[..., None, 2:]
    places = torch.stack((at.repeat(size), at.repeat_interleave(size)), dim=-1)
    return low + (high - low) * places


def mask_box(mask: Tensor) -> Tensor | None:
    """Smallest rectangle that holds a mask.

    Args:
        mask: (H, W), a pixel is inside where it is not 0.

    Returns:
        (4,) float32 xyxy in [0, 1]: the outer edges of its first and last pixels; None if the mask is empty.

    Raises:
        ValueError: If the mask is not a plane.
    """
    if mask.ndim != 2:
        raise ValueError(f"a mask must be (H, W), got {tuple(mask.shape)}")
    inside = mask != 0
    columns, rows = inside.any(0).nonzero()[:, 0], inside.any(1).nonzero()[:, 0]
    if len(columns) == 0:
        return None
    height, width = mask.shape
    edges = (
        float(columns[0]) / width,
        float(rows[0]) / height,
        float(columns[-1] + 1) / width,
        float(rows[-1] + 1) / height,
    )
    return torch.tensor(edges, dtype=torch.float32, device=mask.device)


def mask_centroid(mask: Tensor) -> Tensor | None:
    """(2,) float32 mean of the centres of a mask's pixels, in [0, 1]; None if the (H, W) mask is empty."""
    if mask.ndim != 2:
        raise ValueError(f"a mask must be (H, W), got {tuple(mask.shape)}")
    places = (mask != 0).nonzero()
    if len(places) == 0:
        return None
    height, width = mask.shape
    y, x = (places.double().mean(0) + 0.5).tolist()
    return torch.tensor((x / width, y / height), dtype=torch.float32, device=mask.device)


def box_centre(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy -> (..., 2) x, y of the middle."""
    _check_boxes(boxes)
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def box_size(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy -> (..., 2) width, height."""
    _check_boxes(boxes)
    return boxes[..., 2:] - boxes[..., :2]


def clip_box(boxes: Tensor) -> Tensor:
    """The part of each box that lies in the frame; a box outside of it gets a zero side."""
    _check_boxes(boxes)
    return boxes.clamp(0, 1)


def to_square(values: Tensor, image_size: int) -> Tensor:
    """Boxes (..., 4) or points (..., 2) as pixels of the segmenter's square input, in [0, image_size].

    The segmenter squeezes a frame to a square, so both axes are scaled alike whatever the frame's shape.

    Raises:
        ValueError: If the last dimension is neither 2 nor 4, or the size is not positive.
    """
    if image_size < 1 or values.shape[-1] not in (2, 4):
        raise ValueError(
            f"need points (..., 2) or boxes (..., 4) and a positive size, got {tuple(values.shape)} and "
            f"{image_size}"
        )
    return values * image_size


def point_labels(mask: Tensor, points: Tensor) -> Tensor:
    """Whether each point lies on a mask.

    Args:
        mask: (H, W), inside where it is not 0.
        points: (..., 2) x, y in [0, 1].

    Returns:
        (...) int64, 1 or 0: the mask at the pixel floor(x W), floor(y H); points at the right and lower
        edge, or outside, are read at the nearest pixel. The paper says "rounded" (assumed: the pixel that
        covers the point).
    """
    if mask.ndim != 2 or points.shape[-1] != 2:
        raise ValueError(
            f"need a (H, W) mask and (..., 2) points, got {tuple(mask.shape)} and {tuple(points.shape)}"
        )
    height, width = mask.shape
    places = points.detach().to(mask.device)
    x = (places[..., 0] * width).floor().long().clamp(0, width - 1)
    y = (places[..., 1] * height).floor().long().clamp(0, height - 1)
    return (mask[y, x] != 0).long()


def jitter_box(box: Tensor, amount: float, generator: torch.Generator | None = None) -> Tensor:
    """Move every edge of boxes by U(-amount, amount) times the box's side, then clip to the frame.

    A grid in the true box meets little background, and none that surrounds the object; training grids are
    laid in moved boxes (amount 0.1, assumed).

    Args:
        box: (..., 4) xyxy in [0, 1].
        amount: In [0, 0.5): beyond, edges could cross.
        generator: On the CPU; None takes torch's own.

    Raises:
        ValueError: For another amount.
    """
    if not 0 <= amount < 0.5:
        raise ValueError(f"boxes may be moved by 0 to less than 0.5 of their size, got {amount}")
    _check_boxes(box)
    shift = (torch.rand(box.shape, generator=generator, dtype=torch.float32) * 2 - 1) * amount
    size = box_size(box)
    return clip_box(box + shift.to(box) * torch.cat((size, size), dim=-1))


def full_precision(values: Tensor) -> Tensor:
    """The same values in float32, or in float64 if they are float64."""
    return values if values.dtype == torch.float64 else values.float()


def _check_boxes(boxes: Tensor) -> None:
    if boxes.ndim < 1 or boxes.shape[-1] != 4 or not boxes.is_floating_point():
        raise ValueError(f"boxes must be floating (..., 4) xyxy, got {tuple(boxes.shape)} {boxes.dtype}")
