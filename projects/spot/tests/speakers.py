"""Small tokenizers and a small model that speaks of boxes; shared by this method's tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from refstream_projects.spot.text import SpotFormat
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from refstream.models.mllm.chat import PromptBuilder
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.mllm.tokens import ADDED_TOKENS, END_OF_TEXT, IMAGE_TOKENS, TURN_END, add_special_tokens
from refstream.models.modeling import RefStreamConfig, RefStreamModel
from refstream.testing.small import MLLM

WORDS = ("Yes", "No", "the red circle", "No object found", "where is it")
SHORT = dict(box_question="where is {expression}", point_question="{expression} {box} {points}")
TOKENS = SpotFormat(yes="<Yes>", no="<No>", separator="", **SHORT)  # type: ignore[arg-type]


def prompts_for(text: SpotFormat, tokenizer: PreTrainedTokenizerFast | None = None) -> PromptBuilder:
    """A prompt builder whose answers hold what the format needs."""
    tokenizer = build_tiny_tokenizer(WORDS) if tokenizer is None else tokenizer
    add_special_tokens(tokenizer, text.answer_tokens)
    return PromptBuilder(tokenizer, 4, with_context=False, answer_tokens=text.answer_tokens)


def changed_tokenizer(
    words: Sequence[str], change: Callable[[dict[str, Any]], None]
) -> PreTrainedTokenizerFast:
    """A tiny tokenizer whose ``tokenizer.json`` was changed."""
    content = json.loads(build_tiny_tokenizer(words).backend_tokenizer.to_str())
    change(content)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def small_speaker(text: SpotFormat, **sizes: Any) -> RefStreamModel:
    """InternVL alone with random weights, the same every time; ``sizes`` of its language model."""
    torch.manual_seed(5)
    base: dict[str, Any] = dict(MLLM)
    mllm = dict(
        type="InternVL",
        config=dict(base, text_config=dict(base["text_config"], **sizes)),
        added_tokens=[*IMAGE_TOKENS, *ADDED_TOKENS, *text.answer_tokens],
        prompts=dict(with_context=False, answer_tokens=list(text.answer_tokens)),
    )
    return RefStreamModel(RefStreamConfig(mllm=mllm), build_tiny_tokenizer(WORDS)).eval()
