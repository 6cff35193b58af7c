"""Multimodal language models: one adapter file per family, one prompt builder for all."""

from refstream.models.mllm.chat import ChatTokens, PromptBuilder, clean_expression
from refstream.models.mllm.internvl import InternVL
from refstream.models.mllm.tokenizer import build_tiny_tokenizer, load_tokenizer

__all__ = [
    "ChatTokens",
    "InternVL",
    "PromptBuilder",
    "build_tiny_tokenizer",
    "clean_expression",
    "load_tokenizer",
]
