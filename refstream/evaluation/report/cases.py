"""Which expressions a report shows as pictures, and the pictures: the prediction and the truth's outline."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Predictions
from refstream.evaluation.protocols.base import ItemScore
from refstream.streaming.overlay import outline_mask

WIDTH = 320  # of a picture, at most
NUM_FRAMES = 5
FILL, ALPHA = (236, 0, 140), 0.6
"""Magenta, which things seldom are, and how much of it: yellow on a yellow thing would not be seen."""
DARK, LIGHT = (20, 20, 20), (255, 255, 255)
GREY = 96  # stands for a frame that cannot be read


@dataclass(frozen=True)
class Picture:
    """One frame of a case.

    Attributes:
        source: The JPEG as a data URI.
        frame: Its name in the benchmark.
        position: Among the scored frames, from 0.
        predicted: Whether there is a prediction for this frame.
    """

    source: str
    frame: str
    position: int
    predicted: bool


@dataclass(frozen=True)
class Case:
    """One expression as pictures; ``problem`` says why something cannot be shown."""

    item: ItemScore
    pictures: tuple[Picture, ...]
    problem: str = ""


def choose(
    items: Sequence[ItemScore], metric: str, num_cases: int
) -> tuple[list[ItemScore], list[ItemScore]]:
    """The best and the worst items, at most ``num_cases`` together; the worst get the odd one.

    Several of one video are only taken if there are too few videos among the next best, or worst. Where the
    target is absent an empty mask is perfect, and shows nothing: such items are not among the best as long as
    there are others.

    Args:
        items: To choose from.
        metric: By which value.
        num_cases: At least 0.
    """
    known = sorted(
        (item for item in items if metric in item.values), key=lambda i: (-i.values[metric], i.video, i.id)
    )
    num_worst = min(len(known), (num_cases + 1) // 2)
    worst = _of_many_videos(known[::-1], num_worst)
    left = [item for item in known if item not in worst]
    showing = [item for item in left if not item.details.get("no_target")]
    num_best = min(len(left), num_cases - num_worst)
    best = _of_many_videos(showing, num_best)
    if len(best) < num_best:
        best += _of_many_videos([item for item in left if item not in best], num_best - len(best))
    return best, worst


def find(benchmark: MaskBenchmark, item: ItemScore) -> tuple[EvalVideo, EvalExpression] | None:
    """What was asked; None for an item that is no expression, such as an object."""
    for video in benchmark.videos:
        if video.id == item.video:
            named = (expression for expression in video.expressions if expression.id == item.id)
            expression = next(named, None)
            return None if expression is None else (video, expression)
    return None


def render(benchmark: MaskBenchmark, predictions: Predictions, item: ItemScore) -> Case | None:
    """An item as pictures, spread evenly over the scored frames; None if it is no expression.

    Frames that cannot be read become grey, and the case says so: scoring needs none.
    """
    found = find(benchmark, item)
    if found is None:
        return None
    video, expression = found
    scored = video.scored_positions
    count = min(NUM_FRAMES, len(scored))
    positions = [int(p) for p in np.round(np.linspace(0, len(scored) - 1, count))] if count else []
    problem = ""
    images: dict[int, np.ndarray] = {}
    try:
        images = _images(benchmark, video, {scored[p] for p in positions})
    except UserError as error:
        problem = f"The frames are not shown: {error}"
    truth = benchmark.truth(video, expression)
    size = _size(truth, images, video)
    if size is None:
        return Case(item, (), problem or "Neither frames nor truth can be read.")
    prediction = predictions.read(video, expression, size)
    pictures = []
    for position in positions:
        image = images.get(scored[position], np.full((*size, 3), GREY, dtype=np.uint8))
        has = prediction is not None and position not in prediction.missing
        mask = prediction.masks[position] if prediction is not None and has else None
        drawn = overlay(image, mask, None if truth is None else truth[position])
        pictures.append(Picture(jpeg_uri(drawn), video.scored_frames[position], position, has))
    return Case(item, tuple(pictures), problem)


def overlay(image: np.ndarray, mask: np.ndarray | None, truth: np.ndarray | None) -> np.ndarray:
    """A frame at a legible size, the mask filled, the truth's outline in white on black.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (h, w) bool of any size, None if there is none.
        truth: The same.

    Returns:
        (H', W', 3) uint8 with W' at most ``WIDTH``; small frames are enlarged by a whole factor.
    """
    height, width = image.shape[:2]
    factor = max(1, WIDTH // width)
    new = (
        (width * factor, height * factor)
        if width <= WIDTH
        else (WIDTH, max(1, round(height * WIDTH / width)))
    )
    how = cv2.INTER_AREA if width > WIDTH else cv2.INTER_NEAREST
    picture = np.array(cv2.resize(image, new, interpolation=how), dtype=np.uint8)
    if mask is not None and mask.any():
        inside = _resized(mask, new)
        tinted = np.round(picture[inside] * (1 - ALPHA) + np.array(FILL) * ALPHA).astype(np.uint8)
        picture[inside] = tinted
        picture = outline_mask(picture, inside, FILL)
    if truth is not None and truth.any():
        outline = _resized(truth, new)
        wide = cv2.dilate(outline.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        picture = outline_mask(outline_mask(picture, wide, DARK), outline, LIGHT)
    return picture


def jpeg_uri(picture: np.ndarray) -> str:
    """(H, W, 3) uint8 RGB as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _of_many_videos(items: Sequence[ItemScore], count: int) -> list[ItemScore]:
    """Of the first ``3 * count``, one of each video before a second one of any."""
    chosen: list[ItemScore] = []
    left = list(items[: 3 * count])
    while left and len(chosen) < count:
        seen: set[str] = set()
        later = []
        for item in left:
            if item.video in seen or len(chosen) == count:
                later.append(item)
            else:
                seen.add(item.video)
                chosen.append(item)
        left = later
    return chosen


def _images(benchmark: MaskBenchmark, video: EvalVideo, wanted: set[int]) -> dict[int, np.ndarray]:
    """The wanted frames by number; reading stops after the last of them."""
    images: dict[int, np.ndarray] = {}
    for number, image in enumerate(benchmark.images(video)):
        if number in wanted:
            images[number] = image
        if len(images) == len(wanted):
            break
    return images


def _size(
    truth: np.ndarray | None, images: dict[int, np.ndarray], video: EvalVideo
) -> tuple[int, int] | None:
    """(H, W) of the masks."""
    if truth is not None:
        return (int(truth.shape[1]), int(truth.shape[2]))
    if images:
        first = next(iter(images.values()))
        return (int(first.shape[0]), int(first.shape[1]))
    return video.size


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) bool -> (size[1], size[0]) bool, nearest neighbour."""
    return np.asarray(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST), dtype=bool)
