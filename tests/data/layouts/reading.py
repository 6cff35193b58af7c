"""Reading what was written without the code that wrote it."""

from __future__ import annotations

import json
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from refstream.data.pickles import load_plain_pickle

REAL = Path(__file__).resolve().parents[4] / "shared" / "data"


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def load_pickle(path: Path) -> Any:
    """Through the restricted reader; the file is of protocol 2 and names no class at all."""
    operations = [operation.name for operation, _, _ in pickletools.genops(path.read_bytes())]
    assert operations[0] == "PROTO"
    assert path.read_bytes()[1] == 2
    assert not {"GLOBAL", "STACK_GLOBAL", "REDUCE", "INST", "OBJ", "NEWOBJ", "BUILD"} & set(operations)
    return load_plain_pickle(path)


def union(codes: list[list[dict[str, Any] | None]], shape: tuple[int, int, int]) -> np.ndarray:
    """Masks of annotations, frame by frame, as the official evaluators add them up; (T, H, W) bool."""
    total = np.zeros(shape, dtype=bool)
    for annotation in codes:
        assert len(annotation) == shape[0]
        for t, code in enumerate(annotation):
            if code is not None:
                assert code["size"] == list(shape[1:])
                total[t] |= coco.decode(code).astype(bool)
    return total


def truth(clip: Any, object_ids: tuple[int, ...]) -> np.ndarray:
    """(T, H, W) bool."""
    return clip.object_masks[list(object_ids)].any(axis=0)


def labels(folder: Path) -> tuple[list[str], np.ndarray]:
    """Names and (T, H, W) uint8 labels of a folder of palette PNG."""
    paths = sorted(folder.iterdir())
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            assert (picture.format, picture.mode) == ("PNG", "P")
            palette = picture.getpalette()
            assert palette is not None
            assert palette[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]  # of DAVIS
            pictures.append(np.array(picture))
    return [path.name for path in paths], np.stack(pictures)


def frames(folder: Path) -> tuple[list[str], np.ndarray]:
    """Names and (T, H, W, 3) uint8 pixels of a folder of JPEG."""
    paths = sorted(folder.iterdir())
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            pictures.append(np.array(picture))
    return [path.name for path in paths], np.stack(pictures)


def assert_frames(folder: Path, clip: Any, names: list[str]) -> None:
    """The frames are there under their names, and look like the clip's (JPEG is lossy)."""
    found, pixels = frames(folder)
    assert found == [f"{name}.jpg" for name in names]
    assert np.abs(pixels.astype(int) - clip.frames).max() <= 6


def form(value: Any) -> Any:
    """The shape of a record: keys and types, what varies from record to record left out."""
    if isinstance(value, dict):
        return {key: form(item) for key, item in value.items()}
    if isinstance(value, list):
        return [form(value[0])] if value else []
    return type(value).__name__
