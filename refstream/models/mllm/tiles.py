"""Pixels for the vision tower: one square tile, or InternVL's dynamic tiles.

Source: InternVL 1.5 (arXiv 2404.16821), section 3.3 "Dynamic High-Resolution": the grid (columns, rows) with
at most ``max_tiles`` cells whose aspect ratio is nearest to the image's is filled by resizing, and a
thumbnail of the whole image follows when there is more than one cell. StreamingRVOS trains with one tile per
frame.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

ResizeMode = Literal["tensor", "pil"]


def tile_grid(
    height: int, width: int, *, max_tiles: int = 12, min_tiles: int = 1, side: int = 448
) -> tuple[int, int]:
    """(columns, rows) of the tiles for an image of ``height`` x ``width`` pixels.

    Of several grids with the same distance in aspect ratio the later (larger) one wins if the image has more
    than half as many pixels as that grid; grids are tried in order of their cells.
    """
    if not 1 <= min_tiles <= max_tiles:
        raise ValueError(f"expected 1 <= min_tiles <= max_tiles, got {min_tiles} and {max_tiles}")
    grids = {
        (columns, rows)
        for cells in range(min_tiles, max_tiles + 1)
        for columns in range(1, cells + 1)
        for rows in range(1, cells + 1)
        if min_tiles <= columns * rows <= max_tiles
    }
    aspect = width / height
    best, best_distance = (1, 1), float("inf")
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        distance = abs(aspect - columns / rows)
        larger = width * height > 0.5 * side * side * columns * rows
        if distance < best_distance or (distance == best_distance and larger):
            best, best_distance = (columns, rows), distance
    return best


def num_tiles(height: int, width: int, *, max_tiles: int, side: int = 448, thumbnail: bool = True) -> int:
    """Tiles of one image, with the thumbnail; 1 if ``max_tiles`` is 1."""
    columns, rows = tile_grid(height, width, max_tiles=max_tiles, side=side)
    cells = columns * rows
    return cells + 1 if thumbnail and cells > 1 else cells


def image_tiles(
    image: np.ndarray,
    *,
    side: int,
    max_tiles: int = 1,
    thumbnail: bool = True,
    mode: ResizeMode = "tensor",
    device: torch.device | str = "cpu",
) -> Tensor:
    """Cut one image into normalised tiles.

    Args:
        image: (H, W, 3) uint8 RGB.
        side: Pixels of a tile's side.
        max_tiles: 1 resizes the whole image to one tile, more cuts by :func:`tile_grid`.
        thumbnail: Whether the whole image follows the cut tiles.
        mode: ``tensor`` resizes with torch (antialiased bicubic, on ``device``), ``pil`` with PIL as the
            released code does; they differ by a grey level or two of 255.

    Returns:
        (tiles, 3, side, side) float32, ImageNet-normalised, row by row, thumbnail last.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an image must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
    columns, rows = tile_grid(*image.shape[:2], max_tiles=max_tiles, side=side)
    pixels = resize_bicubic(image, side * rows, side * columns, mode, device)
    tiles = (
        pixels.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4).reshape(-1, 3, side, side)
    )
    if thumbnail and columns * rows > 1:
        tiles = torch.cat([tiles, resize_bicubic(image, side, side, mode, device)[None]])
    mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float32, device=tiles.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, dtype=torch.float32, device=tiles.device).view(3, 1, 1)
    return (tiles - mean) / std


def resize_bicubic(
    image: np.ndarray, height: int, width: int, mode: ResizeMode, device: torch.device | str
) -> Tensor:
    """Bicubic to (3, height, width) float32 in [0, 1]."""
    if mode == "pil":
        from PIL import Image

        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(resized)).to(device).permute(2, 0, 1).float() / 255
    if mode != "tensor":
        raise ValueError(f"mode must be 'tensor' or 'pil', got {mode!r}")
    pixels = torch.tensor(image, device=device).permute(2, 0, 1)[None]
    if pixels.shape[-2:] != (height, width):
        # uint8 on the CPU has its own fast kernel; elsewhere the arithmetic is float32
        source = pixels if pixels.device.type == "cpu" else pixels.float()
        pixels = F.interpolate(source, (height, width), mode="bicubic", align_corners=False, antialias=True)
    return pixels[0].float().clamp(0, 255) / 255
