"""Pairs of masks to measure and compare metrics on: made up, awkward on purpose, or read from two folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from refstream.errors import UserError

DAVIS_SIZE = 480, 854


class MaskPair(NamedTuple):
    """Two masks of one frame, and what does not count.

    Attributes:
        name: Where they come from.
        gt: (H, W) bool.
        result: Same shape, bool.
        void: Same shape, bool, or None.
        bound_th: Tolerance to score them with.
    """

    name: str
    gt: np.ndarray
    result: np.ndarray
    void: np.ndarray | None = None
    bound_th: float = 0.008


def blob_clip(rng: np.random.Generator, num_frames: int, size: tuple[int, int] = DAVIS_SIZE) -> np.ndarray:
    """A clip of one moving object: four ellipses that drift together, (T, H, W) bool."""
    height, width = size
    rows, cols = np.mgrid[:height, :width].astype(np.float32)
    centre = rng.uniform(0.3, 0.7, 2) * size
    drift = rng.uniform(-0.15, 0.15, 2) * size / max(1, num_frames - 1)
    offsets = rng.uniform(-0.15, 0.15, (4, 2)) * min(size)
    radii = rng.uniform(0.05, 0.2, (4, 2)) * min(size)
    clip = np.zeros((num_frames, height, width), dtype=bool)
    for t, mask in enumerate(clip):
        for (y, x), (b, a) in zip(centre + t * drift + offsets, radii, strict=True):
            mask |= ((rows - y) / b) ** 2 + ((cols - x) / a) ** 2 <= 1
    return clip


def shifted(masks: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """(..., H, W) bool moved by whole pixels; what comes in from outside is False."""
    height, width = masks.shape[-2:]
    moved = np.zeros_like(masks)
    moved[..., max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)] = masks[
        ..., max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)
    ]
    return moved


def blob_pairs(num: int, seed: int, size: tuple[int, int] = DAVIS_SIZE) -> Iterator[MaskPair]:
    """Pairs of smooth objects that agree but for a shift of up to 12 pixels and a missing part."""
    rng = np.random.default_rng(seed)
    for index in range(num):
        gt = blob_clip(rng, 1, size)[0]
        dx, dy = (int(step) for step in rng.integers(-12, 13, 2))
        result = shifted(gt, dx, dy)
        result[:, : int(rng.integers(0, size[1] // 2))] = False
        yield MaskPair(f"blobs {index}", gt, result)


def fuzz_pairs(num: int, seed: int, largest: tuple[int, int] = (200, 300)) -> Iterator[MaskPair]:
    """Pairs of all sizes from 1 x 1 on, of all kinds, a third of them with void pixels."""
    rng = np.random.default_rng(seed)
    kinds = list(KINDS)
    for index in range(num):
        height, width = (int(rng.integers(1, side + 1)) for side in largest)
        if index % 4 == 0:  # thin and tiny ones more often than their share
            height, width = (min(side, int(rng.integers(1, 5))) for side in (height, width))
        elif index % 4 == 1:
            height = int(rng.integers(1, 4))
        first, second = rng.choice(kinds, 2)
        gt = KINDS[first](rng, height, width)
        if rng.random() < 0.5:
            result = KINDS[second](rng, height, width)
        else:  # the same, a little off
            second = "altered"
            furthest = min(9, width - 1), min(9, height - 1)
            dx, dy = (int(rng.integers(-side, side + 1)) for side in furthest)
            result = shifted(gt, dx, dy) ^ (rng.random(gt.shape) < rng.choice([0, 0.001, 0.02]))
        void = rng.random(gt.shape) < rng.choice([0.01, 0.3, 0.9]) if rng.random() < 1 / 3 else None
        bound_th = float(rng.choice([0.008, 0.008, 0.02, 0.1, 1, 2, 5]))
        yield MaskPair(f"fuzz {index}: {first}, {second}, {height} x {width}", gt, result, void, bound_th)


def labelled_frames(
    gt_folder: str | Path,
    result_folder: str | Path,
    *,
    video: str = "*",
    objects: bool = False,
    every: int = 1,
) -> Iterator[MaskPair]:
    """Pairs from two folders of ``<video>/<frame>.png`` whose pixels are object numbers, 0 the background.

    Args:
        gt_folder: Of the truth.
        result_folder: Of the result; frames that only one of them has are passed over.
        video: Which ones; a pattern.
        objects: A pair for each number that either picture holds. Otherwise one of the foregrounds.
        every: Take every so manieth common frame.

    Raises:
        UserError: If the folders have no frame in common, a picture holds no numbers, or sizes differ.
    """
    gt_folder, result_folder = Path(gt_folder), Path(result_folder)
    names = [path.relative_to(gt_folder) for path in sorted(gt_folder.glob(f"{video}/*.png"))]
    common = [name for name in names if (result_folder / name).is_file()][::every]
    if not common:
        raise UserError(f"{gt_folder} and {result_folder} have no {video}/<frame>.png in common")
    for name in common:
        gt, result = _read_labels(gt_folder / name), _read_labels(result_folder / name)
        if gt.shape != result.shape:
            raise UserError(f"{result_folder / name} has size {result.shape}, the truth {gt.shape}")
        if not objects:
            yield MaskPair(str(name.with_suffix("")), gt > 0, result > 0)
            continue
        for label in np.union1d(gt, result):
            if label:
                yield MaskPair(f"{name.with_suffix('')}, object {label}", gt == label, result == label)


def _read_labels(path: Path) -> np.ndarray:
    """(H, W) uint8."""
    try:
        with Image.open(path) as picture:
            labels = np.asarray(picture)
            mode = picture.mode
    except OSError as error:
        raise UserError(f"{path} cannot be read as a picture: {error}") from error
    if mode not in ("P", "L") or labels.ndim != 2:
        raise UserError(f"{path}: expected a palette or grey PNG of object numbers, got mode {mode}")
    return labels


def _noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.random((height, width)) < float(rng.choice([0.002, 0.05, 0.5, 0.95]))


def _ellipse(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    rows, cols = np.ogrid[:height, :width]
    y, x = rng.uniform(-0.2, 1.2, 2) * (height, width)
    b, a = rng.uniform(0.05, 0.7, 2) * (height, width) + 0.5
    mask: np.ndarray = ((rows - y) / b) ** 2 + ((cols - x) / a) ** 2 <= 1
    return mask


def _rectangle(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    top, bottom = np.sort(rng.integers(0, height + 1, 2))
    left, right = np.sort(rng.integers(0, width + 1, 2))
    mask[top:bottom, left:right] = True
    return mask


def _pixel(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[rng.integers(height), rng.integers(width)] = True
    return mask


def _line(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    if rng.random() < 0.5:
        mask[rng.integers(height)] = True
    else:
        mask[:, rng.integers(width)] = True
    return mask


def _stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    period = int(rng.integers(2, 12))
    slope = int(rng.integers(0, 2))
    return (np.add.outer(np.arange(height) * slope, np.arange(width)) % period) < period // 2


def _constant(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return np.full((height, width), bool(rng.random() < 0.5))


KINDS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "noise": _noise,
    "ellipse": _ellipse,
    "rectangle": _rectangle,
    "pixel": _pixel,
    "line": _line,
    "stripes": _stripes,
    "constant": _constant,
}
