"""A small composite that speaks of boxes, and clips to show it; shared by this method's tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from refstream_projects.spot import pipeline as _pipeline  # registers it
from refstream_projects.spot.text import SpotFormat

from refstream.data.collate import ClipSample
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.mllm.tokens import ADDED_TOKENS, IMAGE_TOKENS, SEG
from refstream.models.modeling import RefStreamConfig, RefStreamModel
from refstream.structures import Frame
from refstream.testing.small import MLLM, SAM2

assert _pipeline.SPOT
JUDGEMENTS = ["<Yes>", "<No>"]
KEYS: dict[str, Any] = dict(
    yes="<Yes>",
    no="<No>",
    separator="",
    grid=3,
    box_question="where is {expression}",
    point_question="{expression} {box} {points}",
)
TEXT = SpotFormat(**KEYS)
WORDS = ("the red square", "the blue square", "No object found", "where is")


def composite(head: dict[str, Any] | None = None, **pipeline: Any) -> RefStreamModel:
    """InternVL and SAM2 with random weights in double precision, 64 px, the same every time."""
    torch.manual_seed(3)
    text: Any = MLLM["text_config"]
    config = RefStreamConfig(
        mllm=dict(
            type="InternVL",
            config=dict(MLLM, text_config=text),
            added_tokens=[*IMAGE_TOKENS, *ADDED_TOKENS, *JUDGEMENTS],
            prompts=dict(with_context=False, answer_tokens=[*JUDGEMENTS, *([SEG] if head else [])]),
            init_word_embeddings_std=1.0,
        ),
        segmenter=dict(type="Sam2Segmenter", config=SAM2),
        head=head,
        pipeline=dict(type="SPOT", text=KEYS, **pipeline),
    )
    return RefStreamModel(config, build_tiny_tokenizer(WORDS)).double().eval()


def moving(
    num_frames: int = 8, hidden: tuple[int, ...] = (), expression: str = "the red square"
) -> ClipSample:
    """A red square of 20 pixels that walks over 64 pixels of grey, hidden on some frames."""
    frames = np.full((num_frames, 64, 64, 3), 128, dtype=np.uint8)
    masks = np.zeros((1, num_frames, 64, 64), dtype=bool)
    for t in range(num_frames):
        if t in hidden:
            continue
        top, left = 8 + 2 * t, 4 + 5 * t
        masks[0, t, top : top + 20, left : left + 20] = True
        frames[t][masks[0, t]] = (220, 40, 40)
    return ClipSample(frames, [expression], masks, id=f"moving-{num_frames}-{hidden}")


def stream_of(sample: ClipSample) -> list[Frame]:
    return [Frame(t, t / 10, image) for t, image in enumerate(sample.frames)]
