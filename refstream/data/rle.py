"""Masks as COCO run-length codes: the one place that knows pycocotools and its format.

A code is ``{"size": [H, W], "counts": str}``, column-major as COCO has it and fit for JSON. A clip is a list
of codes, None standing for an empty frame as in MeViS and ReVOS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco

RLE = dict[str, Any]


def encode(mask: np.ndarray) -> RLE:
    """(H, W) bool -> code. Raises ValueError for another shape or dtype."""
    if mask.dtype != bool or mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"expected a non-empty (H, W) bool mask, got {mask.shape} {mask.dtype}")
    code = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def decode(code: RLE) -> np.ndarray:
    """Code -> (H, W) bool.

    Counts may be a string, bytes, or an uncompressed list of runs.

    Raises:
        ValueError: If the code does not hold what its size says.
    """
    height, width = _size(code)
    counts = code.get("counts")
    if isinstance(counts, str):
        try:
            counts = counts.encode("ascii")
        except UnicodeEncodeError as error:
            raise ValueError(
                "the counts of an RLE must be ASCII; is the file in another encoding?"
            ) from error
    if not isinstance(counts, bytes | list):
        raise ValueError(
            f"the counts of an RLE must be a string, bytes or a list, got {type(counts).__name__}"
        )
    runs = counts if isinstance(counts, list) else _runs(counts)
    if sum(runs) != height * width or min(runs, default=0) < 0:
        raise ValueError(
            f"the runs of an RLE must add up to {height} * {width} = {height * width}, got {sum(runs)}"
        )
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def from_polygons(polygons: Sequence[Sequence[float] | np.ndarray], height: int, width: int) -> np.ndarray:
    """COCO polygons -> (H, W) bool, True inside any of them, overlaps included.

    Args:
        polygons: Each [x0, y0, x1, y1, ...] in pixels; one of fewer than three points encloses nothing.
        height: H.
        width: W.

    Raises:
        ValueError: If a polygon is not an even number of finite coordinates, or lies far outside.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a mask needs a size of at least 1 x 1, got {height} x {width}")
    limit = 10.0 * max(height, width)  # pycocotools walks along every edge, pixel by pixel
    shapes = []
    for polygon in polygons:
        points = np.asarray(polygon, dtype=np.float64)
        if points.ndim != 1 or len(points) % 2 or not (np.abs(points) <= limit).all():
            raise ValueError(
                f"a polygon must be an even number of finite coordinates near a picture of {height} x {width}"
                f", got {str(polygon)[:80]}"
            )
        if len(points) >= 6:  # pycocotools takes four numbers for a box
            shapes.append(points.tolist())
    if not shapes:
        return np.zeros((height, width), dtype=bool)
    return decode(coco.merge(coco.frPyObjects(shapes, height, width)))


def encode_clip(masks: np.ndarray) -> list[RLE]:
    """(T, H, W) bool -> T codes."""
    if masks.ndim != 3:
        raise ValueError(f"expected (T, H, W) masks, got shape {masks.shape}")
    return [encode(mask) for mask in masks]


def decode_clip(codes: Sequence[RLE | None], size: tuple[int, int] | None = None) -> np.ndarray:
    """T codes -> (T, H, W) bool; None becomes an empty frame.

    Args:
        codes: One per frame.
        size: (H, W); needed if all codes are None, otherwise checked against them if given.
    """
    sizes = {_size(code) for code in codes if code is not None} | ({size} if size else set())
    if len(sizes) != 1:
        raise ValueError(f"the codes of a clip must have one size, and it must be known; got {sorted(sizes)}")
    height, width = sizes.pop()
    masks = np.zeros((len(codes), height, width), dtype=bool)
    for mask, code in zip(masks, codes, strict=True):
        if code is not None:
            mask[:] = decode(code)
    return masks


def _size(code: RLE) -> tuple[int, int]:
    size = code.get("size") if isinstance(code, dict) else None
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(int(side) > 0 for side in size):
        raise ValueError(f"an RLE must be a dict with size [H, W] and counts, got {str(code)[:80]!r}")
    return int(size[0]), int(size[1])


def _runs(counts: bytes) -> list[int]:
    """The runs of compressed counts; pycocotools itself would read past the end of a broken code.

    Format: 5 bits a character from 48 on, bit 5 says that more follow, bit 4 of the last is the sign; from
    the fourth run on, the difference to the run two before is stored.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for byte in counts:
        bits = byte - 48
        if not 0 <= bits < 64:
            raise ValueError(f"the counts of an RLE hold an impossible character: {chr(byte)!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise ValueError("the counts of an RLE end in the middle of a number; is the file truncated?")
    return runs
