"""Picture files in: every common kind becomes (H, W, 3) uint8 RGB by defined rules."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from refstream.errors import VideoError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 2**26
"""Largest picture accepted, in pixels (67 million: twice an 8K frame, a quarter of 16k x 16k)."""


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sort key by which ``2.jpg`` comes before ``10.jpg``."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(p), "") if p.isdigit() and p.isascii() else (1, 0, p.lower()) for p in parts]


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read one picture file as (H, W, 3) uint8 RGB.

    Rules: EXIF orientation is applied; grey is repeated over the channels; 16-bit grey is divided by 257 and
    rounded (16-bit colour keeps its high byte); palettes are resolved; alpha is dropped, not blended; CMYK is
    converted by Pillow.

    Raises:
        VideoError: unreadable, truncated, float-valued, or more than ``max_pixels`` pixels.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise VideoError(
                    path, f"picture of {width}x{height} pixels; at most {max_pixels} are accepted"
                )
            if image.mode == "F":
                raise VideoError(path, "float-valued picture; expected 8 or 16 bits per channel")
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):
                values = np.clip(np.asarray(upright).astype(np.int64), 0, 65535)
                grey = ((values + 128) // 257).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            if upright.mode in {"P", "PA", "LA"}:
                upright = upright.convert("RGBA")
            return np.array(upright.convert("RGB"))
    except VideoError:
        raise
    except Exception as error:  # Pillow's plugins raise anything on corrupt data
        raise VideoError(path, f"not a readable picture ({type(error).__name__}: {error})") from error


def fit(image: np.ndarray, max_side: int | None) -> np.ndarray:
    """Shrink (H, W, 3) uint8 so that its longer side is at most ``max_side``; never enlarges."""
    height, width = image.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return image
    scale = max_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
