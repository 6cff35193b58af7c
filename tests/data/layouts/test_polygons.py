"""Polygons give back the very pixels under pycocotools, whatever the mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from refstream.data.layouts.polygons import mask_polygons


def rasterise(polygons, height, width):
    """(H, W) uint8, how many of the polygons cover each pixel."""
    total = np.zeros((height, width), dtype=np.uint8)
    for polygon in polygons:
        total += coco.decode(coco.frPyObjects([polygon], height, width))[..., 0]
    return total


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (16, 16), (40, 33)])
@pytest.mark.parametrize("blur", [0.0, 1.5])
def test_random_masks_come_back(size, blur):
    rng = np.random.default_rng(0)
    for share in (0.1, 0.4, 0.5, 0.6, 0.9, 1.0):
        noise = rng.random(size).astype(np.float32)
        mask = (cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise) <= share
        assert (rasterise(mask_polygons(mask), *size) == mask).all()


def test_a_rectangle_has_four_corners():
    mask = np.zeros((10, 12), dtype=bool)
    mask[2:5, 3:9] = True
    assert mask_polygons(mask) == [[9, 2, 9, 5, 3, 5, 3, 2]]


def test_a_ring_is_one_polygon_and_parts_are_several():
    mask = np.zeros((12, 12), dtype=bool)
    mask[1:8, 1:8] = True
    mask[3:5, 3:5] = False
    mask[6, 6] = False
    assert len(mask_polygons(mask)) == 1
    mask[8, 8] = True  # touches at a corner only
    assert len(mask_polygons(mask)) == 2
    assert (rasterise(mask_polygons(mask), 12, 12) == mask).all()


def test_nothing_has_no_polygon():
    assert mask_polygons(np.zeros((3, 4), dtype=bool)) == []
