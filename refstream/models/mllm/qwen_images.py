"""Pixels for Qwen2.5-VL: frames of one fixed size, and their patches in the order in which four are merged.

Source: Qwen2-VL (arXiv 2409.12191), section 2.1, and transformers' image processor: bicubic to multiples of
28 px, CLIP's mean and deviation, every image twice in time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from refstream.models.mllm.tiles import ResizeMode, resize_bicubic

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MIN_PIXELS, MAX_PIXELS = 3136, 100352
"""4 to 128 tokens per frame, usual for streams. 16:9 gives 224 x 420, 120 tokens; 4:3 252 x 364, 117."""


def fitting_size(
    height: int,
    width: int,
    *,
    factor: int = 28,
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = MAX_PIXELS,
) -> tuple[int, int]:
    """(H, W) that Qwen2.5-VL gives to an image: multiples of ``factor`` near its shape, within the limits.

    Args:
        height, width: Of the image.
        factor: Pixels of a token's side.
        min_pixels, max_pixels: Least and most pixels after resizing.

    Raises:
        ValueError: For sides that are not positive, or one over 200 times the other.
    """
    if min(height, width) < 1 or max(height, width) > 200 * min(height, width):
        raise ValueError(f"an image of {height} x {width} pixels cannot be resized, sides differ too much")
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    if rows * columns > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows = max(factor, math.floor(height / shrink / factor) * factor)
        columns = max(factor, math.floor(width / shrink / factor) * factor)
    elif rows * columns < min_pixels:
        stretch = math.sqrt(min_pixels / (height * width))
        rows = math.ceil(height * stretch / factor) * factor
        columns = math.ceil(width * stretch / factor) * factor
    return rows, columns


def normalised_images(
    images: Sequence[np.ndarray],
    size: tuple[int, int],
    *,
    mode: ResizeMode = "tensor",
    device: torch.device | str = "cpu",
) -> Tensor:
    """Images of any sizes, each resized as a whole.

    Args:
        images: (H, W, 3) uint8 RGB.
        size: (H', W') of all of them.
        mode: ``tensor`` resizes with torch (antialiased bicubic, on ``device``), ``pil`` with PIL.
        device: Where the result is.

    Returns:
        (N, 3, H', W') float32, normalised.

    Raises:
        ValueError: If there is no image, or one is not (H, W, 3) uint8.
    """
    if not images:
        raise ValueError("preprocess needs at least one image, got none")
    for image in images:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"an image must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
    resized = torch.stack([resize_bicubic(image, *size, mode, device) for image in images])
    # grey levels again: the processor's resized images are uint8, which they are not everywhere here
    resized = (resized * 255).round() / 255
    mean = torch.tensor(CLIP_MEAN, dtype=torch.float32, device=resized.device).view(3, 1, 1)
    std = torch.tensor(CLIP_STD, dtype=torch.float32, device=resized.device).view(3, 1, 1)
    return (resized - mean) / std


def patches(pixels: Tensor, *, side: int, merge: int, times: int) -> Tensor:
    """Rows for the patch embedding; the ``merge`` x ``merge`` patches of a token follow each other.

    Args:
        pixels: (N, 3, H, W), sides multiples of ``side * merge``.
        side: Pixels of a patch's side.
        merge: Patches of a token's side.
        times: How often an image is repeated in time.

    Returns:
        (N * H / side * W / side, 3 * times * side * side).
    """
    count, channels, height, width = pixels.shape
    rows, columns = height // (side * merge), width // (side * merge)
    cut = pixels.reshape(count, channels, rows, merge, side, columns, merge, side)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)  # (N, rows, columns, merge, merge, 3, side, side)
    cut = cut.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, times, -1, -1)
    return cut.reshape(count * rows * columns * merge * merge, channels * times * side * side)
