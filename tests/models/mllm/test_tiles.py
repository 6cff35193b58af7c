"""Tiles: InternVL's rule, and the two ways of resizing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

from refstream.models.mllm.tiles import IMAGENET_MEAN, IMAGENET_STD, image_tiles, num_tiles, tile_grid


@pytest.mark.parametrize(
    ("height", "width", "tiles"),
    [(480, 854, 3), (720, 1280, 9), (1080, 1920, 9), (480, 640, 13), (448, 448, 1), (1, 4000, 13)],
)
def test_known_counts(height: int, width: int, tiles: int) -> None:
    assert num_tiles(height, width, max_tiles=12) == tiles
    assert num_tiles(height, width, max_tiles=1) == 1


def test_same_grids_as_transformers() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        height, width = (int(n) for n in generator.integers(8, 2000, size=2))
        expected = get_optimal_tiled_canvas((height, width), (448, 448), 1, 12)
        assert tile_grid(height, width, max_tiles=12, side=448) == expected


def test_tiles_are_cut_row_by_row_with_the_thumbnail_last() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    tiles = image_tiles(image, side=32, max_tiles=6, mode="pil")
    assert tiles.shape == (7, 3, 32, 32)
    assert tiles.dtype == torch.float32
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
    pixels = (torch.from_numpy(image).permute(2, 0, 1).float() / 255 - mean) / std
    torch.testing.assert_close(tiles[1], pixels[:, :32, 32:64])
    torch.testing.assert_close(tiles[5], pixels[:, 32:, 64:])
    small = np.array(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC))
    thumbnail = (torch.from_numpy(small).permute(2, 0, 1).float() / 255 - mean) / std
    torch.testing.assert_close(tiles[6], thumbnail)
    assert len(image_tiles(image, side=32, max_tiles=6, thumbnail=False)) == 6


@pytest.mark.parametrize("size", [(90, 160), (33, 17), (200, 448)])
def test_torch_and_pil_resizing_agree_within_two_grey_levels(size: tuple[int, int]) -> None:
    image = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    difference = image_tiles(image, side=112) - image_tiles(image, side=112, mode="pil")
    assert difference.abs().max() <= 2.01 / 255 / min(IMAGENET_STD)


def test_wrong_input() -> None:
    grey = np.zeros((8, 8), dtype=np.uint8)
    with pytest.raises(ValueError, match="uint8 RGB"):
        image_tiles(grey, side=8)
    with pytest.raises(ValueError, match="min_tiles <= max_tiles"):
        tile_grid(8, 8, max_tiles=0)
    with pytest.raises(ValueError, match="'tensor' or 'pil'"):
        image_tiles(np.zeros((8, 8, 3), dtype=np.uint8), side=4, mode="cv2")  # type: ignore[arg-type]
