"""Average precision of masks by COCO's own evaluator, with one class.

Source: Lin et al., "Microsoft COCO: Common Objects in Context" (ECCV 2014); ``pycocotools.cocoeval``: IoU
0.50 to 0.95 in steps of 0.05, 101 points of recall, at most 100 masks per image.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from refstream.data.rle import RLE, decode

NAMES = (
    "mAP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR1",
    "AR10",
    "AR100",
    "AR_small",
    "AR_medium",
    "AR_large",
)
_CLASS = 1


@dataclass(frozen=True)
class ScoredMask:
    """A mask found in an image.

    Attributes:
        image: Name of the image.
        mask: As an RLE.
        score: How sure the finder is; only the order of scores matters.
    """

    image: str
    mask: RLE
    score: float


def average_precision(truth: dict[str, RLE], found: Sequence[ScoredMask]) -> dict[str, float]:
    """COCO's twelve figures, in [0, 1]; -1 where no true mask is of that range of areas.

    All images are pooled and ranked by score. Equal scores are ranked by the sorted names of their images, so
    with constant scores the figures depend on names.

    Args:
        truth: Name of an image -> its one true mask.
        found: Any number per image, also none; an empty mask counts as one that fits nothing.

    Returns:
        Name of ``NAMES`` -> value.

    Raises:
        ValueError: If there is no image, one found is unknown, a score is not finite, or a mask is broken or
            of another size than the true one.
    """
    if not truth:
        raise ValueError("there is no image, so there is no average precision")
    for one in found:
        if one.image not in truth:
            raise ValueError(f"a mask is of image {one.image!r}, which is not among the {len(truth)} images")
        if not math.isfinite(one.score):
            raise ValueError(f"image {one.image!r}: a score must be finite, got {one.score}")
        if list(one.mask["size"]) != list(truth[one.image]["size"]):
            raise ValueError(
                f"image {one.image!r}: the mask is of size {one.mask['size']}, the true one of "
                f"{truth[one.image]['size']}"
            )
    targets = [_annotation(i, name, mask) for i, (name, mask) in enumerate(truth.items(), start=1)]
    results = [
        {**_annotation(i, one.image, one.mask), "score": float(one.score)}
        for i, one in enumerate(found, start=1)
    ]
    with redirect_stdout(io.StringIO()):  # pycocotools talks
        evaluator = COCOeval(_dataset(truth, targets), _dataset(truth, results), "segm")
        evaluator.params.useCats = 0
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return {name: float(value) for name, value in zip(NAMES, evaluator.stats, strict=True)}


def _dataset(images: dict[str, RLE], annotations: list[dict[str, object]]) -> COCO:
    dataset = COCO()
    dataset.dataset = {
        "images": [
            {"id": name, "height": mask["size"][0], "width": mask["size"][1]} for name, mask in images.items()
        ],
        "categories": [{"id": _CLASS, "name": "target"}],
        "annotations": annotations,
    }
    dataset.createIndex()
    return dataset


def _annotation(number: int, image: str, mask: RLE) -> dict[str, object]:
    """An annotation; numbers count from 1, as pycocotools takes 0 for none. ``decode`` checks the mask."""
    return {
        "id": number,
        "image_id": image,
        "category_id": _CLASS,
        "iscrowd": 0,
        "area": float(decode(mask).sum()),
        "segmentation": dict(mask),
    }
