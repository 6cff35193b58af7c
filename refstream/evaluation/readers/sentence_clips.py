"""What A2D-Sentences and JHMDB-Sentences have in common: one scored frame in a clip, truth in COCO's form.

A sample is a sentence and one annotated frame, numbered from 1. A model is shown the frames up to and with
that one, ``window`` of them or as many as there are: never what comes after, unlike the public readers, whose
window of 8 has the frame in its middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refstream.data.datasets.reading import expect, read_object
from refstream.data.rle import decode
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo

WINDOW = 8  # frames; as many as the public readers show


def check_window(window: int | None) -> None:
    """Raise UserError unless it is None (all earlier frames) or at least 1."""
    if window is not None and window < 1:
        raise UserError(f"window must be at least 1 frame, or none for all earlier ones; got {window}")


def clip(
    video_id: str,
    frame: int,
    window: int | None,
    expressions: tuple[EvalExpression, ...],
    size: tuple[int, int] | None,
    fps: float,
) -> EvalVideo:
    """The clip that ends with ``frame``, which is the one that is scored."""
    first = 1 if window is None else max(1, frame - window + 1)
    names = tuple(f"{number:05d}" for number in range(first, frame + 1))
    return EvalVideo(video_id, names, expressions, size, fps, scored=(len(names) - 1,))


class CocoTruth:
    """Masks in COCO's form, one per sample, by the sample's name.

    Args:
        path: {"images": [{"id": str, "height", "width"}], "annotations": [{"image_id", "segmentation"}]}.

    Raises:
        UserError: If the file is of another form, or a sample has no mask, or several.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = read_object(path)
        self.sizes: dict[str, tuple[int, int]] = {}
        for image in self._rows(content, "images"):
            name = expect(image.get("id"), str, f"{path}, images, id")
            sides = [expect(image.get(side), int, f"{path}, image {name}, {side}") for side in _SIDES]
            self.sizes[name] = (sides[0], sides[1])
        self._codes: dict[str, dict[str, Any]] = {}
        for row in self._rows(content, "annotations"):
            name = expect(row.get("image_id"), str, f"{path}, annotations, image_id")
            if name in self._codes or name not in self.sizes:
                problem = "has a second mask" if name in self._codes else "is not among its images"
                raise UserError(f"{path}: sample {name} {problem}; expected one mask per image")
            self._codes[name] = expect(row.get("segmentation"), dict, f"{path}, sample {name}")
        lacking = [name for name in self.sizes if name not in self._codes]
        if lacking:
            raise UserError(f"{path}: {len(lacking)} images have no mask ({', '.join(lacking[:5])})")

    def mask(self, name: str) -> np.ndarray:
        """(H, W) bool. Raises UserError if the code is broken or of another size than its image."""
        try:
            mask = decode(self._codes[name])
        except ValueError as error:
            raise UserError(f"{self.path}, sample {name}: {error}") from error
        size = self.sizes[name]
        if mask.shape != size:
            raise UserError(f"{self.path}, sample {name}: mask of size {mask.shape}, image of size {size}")
        return mask

    def _rows(self, content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
        rows = expect(content.get(key), list, f"{self.path}: {key}")
        return [expect(row, dict, f"{self.path}: {key}") for row in rows]


_SIDES = ("height", "width")
