"""Frames in the upper left of a padded square, and masks of the frame alone cut out of it again.

SAM 1 scales the long side of a frame to the square's and pads the rest. Everywhere else here prompts and
masks are those of the frame squeezed to the square, whatever its shape; this module lies between the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refstream.models.segmenter.preprocess import IMAGENET_MEAN, IMAGENET_STD, check_image


def fitted_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Rows and columns of a frame whose long side becomes ``size``; at least 1."""
    scale = size / max(height, width)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def padded_pixels(images: Sequence[np.ndarray], size: int, *, device: torch.device | str = "cpu") -> Tensor:
    """Scale the long side, normalise with ImageNet's constants, and pad to the right and below with NaN.

    Resizing is bilinear, antialiased and rounded to uint8, as in the ``segment_anything`` package. NaN stands
    where there is no frame, since every number could be a pixel: so ``frame_extent`` can be told from pixels.

    Args:
        images: (H, W, 3) uint8 RGB, sizes may differ.
        size: S.
        device: Where the result lives.

    Returns:
        (B, 3, S, S) float32.

    Raises:
        ValueError: If there is no image, or one has the wrong shape or dtype.
    """
    if len(images) == 0:
        raise ValueError("expected at least one image, got none")
    pixels = torch.full((len(images), 3, size, size), torch.nan, device=device)
    mean, std = (torch.tensor(c, device=device)[:, None, None] for c in (IMAGENET_MEAN, IMAGENET_STD))
    for i, image in enumerate(images):
        check_image(image)
        height, width = fitted_size(image.shape[0], image.shape[1], size)
        planes = torch.tensor(np.ascontiguousarray(image)).permute(2, 0, 1)[None]  # uint8, on the CPU
        fitted = F.interpolate(planes, (height, width), mode="bilinear", align_corners=False, antialias=True)[
            0
        ]
        pixels[i, :, :height, :width] = (fitted.to(device).float() / 255.0 - mean) / std
    return pixels


def frame_extent(pixels: Tensor) -> Tensor:
    """(B, 2) int64 rows and columns of each frame in (B, 3, S, S) pixels, NaN where there is no frame."""
    there = ~pixels[:, 0].isnan()
    return torch.stack((there[:, :, 0].sum(1), there[:, 0, :].sum(1)), dim=1)


def cut_to_frame(logits: Tensor, share: Tensor) -> Tensor:
    """The part of maps that lies in the frame, stretched over the whole map (bilinear).

    Args:
        logits: (N, M, h, w) of the padded square.
        share: (1 or N, 2) in (0, 1], the share of rows and of columns that the frame covers.

    Returns:
        (N, M, h, w) of the frame alone; the very same values where it covers all.
    """
    for axis in (0, 1):
        logits = _stretch(logits, share[:, axis], dim=2 + axis)
    return logits


def _stretch(maps: Tensor, share: Tensor, dim: int) -> Tensor:
    """Stretch the first ``share`` (1 or N,) of (N, M, h, w) maps along one dimension to its whole length."""
    length = maps.shape[dim]
    steps = torch.arange(length, device=maps.device, dtype=maps.dtype) + 0.5
    places = (steps * share.to(maps)[:, None] - 0.5).clamp(0, length - 1)
    shape = [len(places), 1, 1, 1]
    shape[dim] = length
    before = places.floor()
    size = list(maps.shape)
    low = before.long().reshape(shape).expand(size)
    high = (low + 1).clamp(max=length - 1)
    return torch.lerp(maps.gather(dim, low), maps.gather(dim, high), (places - before).reshape(shape))
