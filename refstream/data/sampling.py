"""Which frames of a video make a training clip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast, get_args

import numpy as np

Sampling = Literal["random_sorted", "contiguous", "dilated"]


def choose_frames(num_available: int, num: int, how: str, rng: np.random.Generator) -> np.ndarray:
    """Draw the frames of a clip, in the order of time.

    ``random_sorted``: drawn from the whole video, then sorted; without replacement if the video has more
    than ``num + 1`` frames, with replacement otherwise. So a video of ``num`` or ``num + 1`` frames may
    repeat some although it has enough: this is the rule of the released StreamingRVOS and Sa2VA code (5
    frames, with replacement from videos of up to 6).
    ``contiguous``: neighbours from a random start; a video that is too short repeats its last frame.
    ``dilated``: a stride drawn from all that fit, then a start; too short as for ``contiguous``.

    Args:
        num_available: Frames of the video.
        num: Frames of the clip.
        how: One of the three names above.
        rng: The only source of chance.

    Returns:
        (num,) int64 in [0, num_available), never decreasing.

    Raises:
        ValueError: If there is no frame, none is asked for, or ``how`` is unknown.
    """
    check_sampling(how, num)
    if num_available < 1:
        raise ValueError(f"a clip needs a video of at least one frame, got {num_available}")
    return _RULES[cast(Sampling, how)](num_available, num, rng)


def check_sampling(how: str, num: int) -> None:
    """Raise ValueError unless ``how`` is a rule of ``choose_frames`` and ``num`` is positive."""
    if how not in _RULES:
        raise ValueError(f"sampling must be one of {', '.join(get_args(Sampling))}, got {how!r}")
    if num < 1:
        raise ValueError(f"a clip needs at least one frame, got num_frames = {num}")


def _random_sorted(num_available: int, num: int, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.choice(num_available, num, replace=num_available <= num + 1))


def _contiguous(num_available: int, num: int, rng: np.random.Generator) -> np.ndarray:
    return _stride(num_available, num, 1, rng)


def _dilated(num_available: int, num: int, rng: np.random.Generator) -> np.ndarray:
    largest = max(1, (num_available - 1) // max(1, num - 1))
    return _stride(num_available, num, int(rng.integers(1, largest + 1)), rng)


def _stride(num_available: int, num: int, stride: int, rng: np.random.Generator) -> np.ndarray:
    latest = max(0, num_available - 1 - (num - 1) * stride)
    frames = rng.integers(0, latest + 1) + stride * np.arange(num)
    return np.minimum(frames, num_available - 1)


_RULES: dict[Sampling, Callable[[int, int, np.random.Generator], np.ndarray]] = {
    "random_sorted": _random_sorted,
    "contiguous": _contiguous,
    "dilated": _dilated,
}
