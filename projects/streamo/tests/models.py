"""A small model that only speaks, with random weights, and dialogues over noise; shared by the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from refstream_projects.streamo.states import STATE_TOKENS

from refstream.data.collate import ClipSample
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.mllm.tokens import ADDED_TOKENS, IMAGE_TOKENS
from refstream.models.modeling import RefStreamConfig, RefStreamModel
from refstream.testing.small import MLLM

WORDS = "tell me when the light turns red it is green now silence standby response"
STATES_SEEN = "sstrsstrrs"


def speaking_config(**text: Any) -> dict[str, Any]:
    """Config of the MLLM: 4 vision tokens per frame, width 32; ``text`` replaces sizes of its text model."""
    return dict(
        type="InternVL",
        config=dict(MLLM, text_config={**cast(dict[str, Any], MLLM["text_config"]), **text}),
        added_tokens=[*IMAGE_TOKENS, *ADDED_TOKENS, *STATE_TOKENS],
        prompts=dict(with_context=False, answer_tokens=list(STATE_TOKENS)),
    )


def small_speaker(pipeline: dict[str, Any] | None = None, **text: Any) -> RefStreamModel:
    """InternVL alone, the same random weights every time."""
    torch.manual_seed(3)
    config = RefStreamConfig(mllm=speaking_config(**text), pipeline=pipeline or {})
    return RefStreamModel(config, build_tiny_tokenizer([WORDS])).eval()


def dialogue(number: int, states: Sequence[str] = STATES_SEEN) -> ClipSample:
    """One turn per letter of ``states`` (s, t for standby, r), each with a frame of noise."""
    said = {"s": STATE_TOKENS[0], "t": STATE_TOKENS[1], "r": f"{STATE_TOKENS[2]} it is red now {number}"}
    turns = [
        ("tell me when the light turns red\n" * (k == 0) + f"<{k}s-{k + 1}s>", said[s])
        for k, s in enumerate(states)
    ]
    frames = np.random.default_rng(number).integers(0, 256, (len(states), 48, 64, 3), np.uint8)
    masks = np.zeros((0, len(states), 48, 64), bool)
    return ClipSample(frames, [], masks, f"stream {number}", tuple(turns), (1,) * len(states))
