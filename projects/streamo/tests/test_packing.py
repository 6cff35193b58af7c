"""Packed rows: full, lossless, and the same numbers as one dialogue per padded row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from refstream_projects.streamo.packing import pack, packed_hidden, packed_labels
from refstream_projects.streamo.states import STATE_TOKENS

from refstream.models.mllm.chat import Turn
from refstream.models.mllm.qwen_vl import QwenVL
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.mllm.tokens import ADDED_TOKENS

from .models import WORDS, small_speaker

SAID = [["tell me when"], ["the light turns red", "now", "it is green"], ["now", "green"]]


def test_rows_hold_everything_once() -> None:
    lengths = [5, 9, 3, 7, 2, 10, 4]
    rows = pack(lengths, 12)
    assert sorted(i for row in rows for i in row) == list(range(7))
    assert all(sum(lengths[i] for i in row) <= 12 for row in rows)
    assert len(rows) == 4  # 40 tokens need 4 rows of 12


def test_too_long_or_empty_sequences_are_refused() -> None:
    assert pack([], 4) == []
    for lengths in ([3, 5], [0, 1]):
        with pytest.raises(ValueError, match=r"must lie in 1\.\.4"):
            pack(lengths, 4)


def small_qwen() -> QwenVL:
    """6 vision tokens per frame, width 32, positions on three axes."""
    torch.manual_seed(0)
    vision = dict(depth=1, hidden_size=32, intermediate_size=40, num_heads=2, out_hidden_size=32)
    text = dict(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=8,
        max_position_embeddings=512,
        rope_parameters=dict(rope_type="default", rope_theta=100.0, mrope_section=[2, 1, 1]),
    )
    config = dict(vision_config=vision, text_config=text, tie_word_embeddings=True)
    mllm = QwenVL(
        config,
        build_tiny_tokenizer([WORDS]),
        image_size=(56, 84),
        added_tokens=[*ADDED_TOKENS, *STATE_TOKENS],
        prompts=dict(with_context=False, answer_tokens=list(STATE_TOKENS)),
    ).eval()
    with torch.no_grad():
        for parameter in mllm.parameters():
            if parameter.ndim > 1:  # at their usual 0.02 wrong positions would not show
                parameter.normal_(std=0.15)
    return mllm


@pytest.mark.parametrize(
    ("family", "attention"), [("internvl", "sdpa"), ("internvl", "eager"), ("qwen", "sdpa")]
)
def test_packed_is_padded(family: str, attention: str) -> None:
    mllm: Any = small_speaker().mllm if family == "internvl" else small_qwen()
    mllm.model.set_attn_implementation(attention)
    talks = [[Turn(text, "<Response> red", 1) for text in said] for said in SAID]
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(len(said), mllm.num_image_tokens, 32, generator=generator) for said in SAID]
    padded = mllm.prompts.turns(talks)
    expected = mllm.forward_chat(padded, torch.cat(images)).hidden
    chats = [mllm.prompts.turns([talk]) for talk in talks]
    hidden = packed_hidden(mllm, chats, images)
    lengths = [int(chat.input_ids.shape[1]) for chat in chats]
    assert hidden.shape == (1, sum(lengths), 32)
    for row, (part, length) in enumerate(zip(hidden[0].split(lengths), lengths, strict=True)):
        torch.testing.assert_close(part, expected[row, :length], rtol=0, atol=1e-5)
    labels, owners = packed_labels(chats)
    for row, length in enumerate(lengths):
        assert torch.equal(labels[owners == row], padded.labels[row, :length])


def test_a_dialogue_does_not_see_its_neighbour() -> None:
    mllm = small_speaker().mllm
    images = torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(0))
    last = mllm.prompts.turns([[Turn("now", "<Silence>", 1)]])
    states = []
    for text in ("tell me", "the light"):
        first = mllm.prompts.turns([[Turn(text, "<Standby>", 0)]])
        hidden = packed_hidden(mllm, [first, last], [None, images])
        states.append(hidden[0, -int(last.input_ids.shape[1]) :])
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=1e-6)
