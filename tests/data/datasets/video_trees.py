"""Small trees in the official forms of the video datasets, written without the package's own writers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

SIZE = (12, 16)
SHARED_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
Rle = dict[str, Any]


def frame_names(count: int, step: int = 1) -> list[str]:
    return [f"{i * step:05d}" for i in range(count)]


def write_frames(folder: Path, names: list[str], size: tuple[int, int] = SIZE) -> None:
    """JPEGs whose grey value is ten times their number, so that a test can tell which one was read."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        image = np.full((*size, 3), 10 * number, np.uint8)
        Image.fromarray(image).save(folder / f"{name}.jpg", quality=100, subsampling=0)


def numbers_of(frames: np.ndarray) -> list[int]:
    """Which frames of ``write_frames`` these are."""
    return [round(float(frame.mean()) / 10) for frame in frames]


def bar(column: int, frame: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) bool: a bar at a column, as high as the frame's number + 1."""
    mask = np.zeros(size, bool)
    mask[: frame + 1, column : column + 3] = True
    return mask


def coded(mask: np.ndarray | None) -> Rle | None:
    """COCO RLE as MeViS stores it: counts as text; None for an empty frame."""
    if mask is None or not mask.any():
        return None
    code = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


def bars(column: int, num_frames: int, size: tuple[int, int] = SIZE) -> list[Rle | None]:
    return [coded(bar(column, frame, size)) for frame in range(num_frames)]


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def mevis_videos() -> tuple[dict[str, Any], dict[str, list[Rle | None]]]:
    """Two videos and their mask dictionary: frames listed out of order, None frames, several objects."""
    names = frame_names(8)
    videos = {
        "0a1B.x": {
            "vid_id": 0,
            "frames": names[::-1],
            "expressions": {
                "0": {"exp": "The bird. Flying left", "obj_id": [0], "anno_id": [7]},
                "1": {"exp": "two birds that meet", "obj_id": [0, 1], "anno_id": [7, 8]},
            },
        },
        "ffff": {
            "vid_id": 1,
            "frames": frame_names(3),
            "expressions": {"0": {"exp": "the cat", "obj_id": [0], "anno_id": [9]}},
        },
    }
    gone = [code if frame % 2 else None for frame, code in enumerate(bars(2, 8))]
    return videos, {"7": gone, "8": bars(4, 8), "9": bars(0, 3)}


def write_mevis_tree(
    root: Path, videos: dict[str, Any], masks: dict[str, Any], sizes: dict[str, tuple[int, int]] | None = None
) -> Path:
    for name, video in videos.items():
        write_frames(root / "JPEGImages" / name, sorted(video["frames"]), (sizes or {}).get(name, SIZE))
    write_json(root / "meta_expressions.json", {"videos": videos})
    write_json(root / "mask_dict.json", masks)
    return root
