"""A small model that says boxes and judgements by a script, for the contracts that all methods keep."""

from __future__ import annotations

import zlib
from typing import Any

from torch import Tensor

from refstream.models.modeling import RefStreamModel
from refstream.testing import say

from .composites import KEYS as TEXT_KEYS
from .composites import TEXT, composite

KEYS: dict[str, dict[str, Any]] = {"SPOT": dict(text=TEXT_KEYS)}


def model(config: dict[str, Any]) -> RefStreamModel:
    """Random weights in single precision; ``config`` is that of the pipeline."""
    return composite(**{key: value for key, value in config.items() if key not in ("type", "text")}).float()


def speak(some_model: RefStreamModel) -> None:
    """Let its MLLM answer."""
    say(some_model.mllm, answer)


def answer(dialogue: str, image_tokens: Tensor) -> str:
    """One box, or its judgements, which depend on every word of the dialogue and every bit of the frame."""
    number = zlib.crc32(dialogue.encode() + image_tokens.detach().cpu().contiguous().numpy().tobytes())
    question = dialogue.rpartition("<|im_start|>user")[2]
    if "where is" not in question:
        return "".join((TEXT.yes, TEXT.no)[number >> k & 1] for k in range(TEXT.num_points))
    left, top, width, height = (number >> 8 * k & 0xFF for k in range(4))
    corners = (left, top, left + 200 + width, top + 200 + height)
    return "[" + ",".join(f"{corner:03d}" for corner in corners) + "]"
