"""A toy MLLM that holds dialogues, and the dialogues."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from refstream.models.mllm import InternVL, Turn, build_tiny_tokenizer
from refstream.models.mllm import tokens as T

STATES = ("<Silence>", "<Standby>", "<Response>")
SYSTEM = "You watch a video."
WORDS = ("tell me when the light turns green", "You watch a video", "it is now")


def toy_config(length: int = 512, layers: int = 3) -> dict[str, Any]:
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = {
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return {
        "vision_config": {**vision, "attention_bias": True, "image_size": 16, "patch_size": 4},
        "text_config": {
            **text,
            "model_type": "qwen2",
            "intermediate_size": 48,
            "vocab_size": 8,
            "max_position_embeddings": length,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "downsample_ratio": 0.5,
    }


def toy_mllm(length: int = 512, layers: int = 3, **prompts: Any) -> InternVL:
    """Random weights, spread so that different inputs give clearly different logits."""
    options = {"answer_tokens": STATES, "system": SYSTEM, "with_context": False, **prompts}
    mllm = InternVL(
        toy_config(length, layers),
        build_tiny_tokenizer(WORDS),
        prompts=options,
        added_tokens=(*T.IMAGE_TOKENS, *T.ADDED_TOKENS, *STATES),
        init_word_embeddings_std=1.0,
    ).eval()
    for name, weight in mllm.named_parameters():
        if weight.ndim == 2 and ("language_model.layers" in name or "lm_head" in name):
            torch.nn.init.normal_(weight.data, std=0.3)
    return mllm


def stream_turns(count: int, asked_at: int = 0) -> list[Turn]:
    """One image a second, a question, a few answers."""
    turns = []
    for second in range(count):
        text = f"<{second}s-{second + 1}s>"
        if second == asked_at:
            text = f"tell me when the light turns green\n{text}"
        answer = STATES[0]
        if second % 4 == 2:
            answer = STATES[1]
        elif second % 4 == 3:
            answer = f"{STATES[2]} it is green now"
        turns.append(Turn(text, answer, images=1))
    return turns


def frame_tokens(mllm: InternVL, count: int) -> Tensor:
    """(count, N, D) vision tokens."""
    return torch.randn(count, mllm.num_image_tokens, mllm.hidden_size)
