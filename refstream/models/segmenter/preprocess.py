"""Images of any size -> the segmenter's normalised square input."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RESIZES = ("bilinear", "pil_bicubic")


def check_image(image: np.ndarray) -> None:
    """Raise ValueError unless the image is (H, W, 3) uint8 and not empty."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"expected an image (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # cached constants must serve training too
def _constants(bf16: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation, (3, 1, 1) float32."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    mean = torch.tensor(IMAGENET_MEAN, dtype=dtype, device=device)
    std = torch.tensor(IMAGENET_STD, dtype=dtype, device=device)
    return mean.float()[:, None, None], std.float()[:, None, None]


def _resize(image: np.ndarray, size: int, resize: str, device: torch.device) -> Tensor:
    """One image -> (3, size, size) float32 in [0, 255]."""
    if resize == "pil_bicubic" and image.shape[:2] != (size, size):
        image = np.asarray(Image.fromarray(image).resize((size, size)))
    pixels = torch.tensor(np.ascontiguousarray(image), device=device).permute(2, 0, 1).float()
    if pixels.shape[1:] == (size, size):
        return pixels
    return F.interpolate(pixels[None], (size, size), mode="bilinear", align_corners=False, antialias=True)[0]


def square_pixels(
    images: Sequence[np.ndarray],
    size: int,
    *,
    resize: str = "bilinear",
    bf16_constants: bool = False,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Resize to a square without keeping the aspect ratio, and normalise with ImageNet's constants.

    Args:
        images: (H, W, 3) uint8 RGB, sizes may differ.
        size: S.
        resize: "bilinear": uint8 is uploaded and resized on the device with antialiasing, as in SAM2's image
            predictor. "pil_bicubic": Pillow's default filter, rounded to uint8, as in the Sa2VA release.
        bf16_constants: Round mean and deviation to bfloat16, as the Sa2VA release does.
        device: Where the result lives.

    Returns:
        (B, 3, S, S) float32.

    Raises:
        ValueError: If there is no image, one has the wrong shape or dtype, or ``resize`` is unknown.
    """
    if resize not in RESIZES:
        raise ValueError(f"resize must be one of {RESIZES}, got {resize!r}")
    if len(images) == 0:
        raise ValueError("expected at least one image, got none")
    for image in images:
        check_image(image)
    device = torch.device(device)
    mean, std = _constants(bf16_constants, device)
    pixels = torch.stack([_resize(image, size, resize, device) for image in images])
    return (pixels / 255.0 - mean) / std
