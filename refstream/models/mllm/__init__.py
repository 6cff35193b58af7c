"""Multimodal language models: one adapter file per family, one prompt builder for all."""

from refstream.models.mllm.chat import ChatTokens, PromptBuilder, Turn, clean_expression
from refstream.models.mllm.dialogue import Dialogue
from refstream.models.mllm.internvl import InternVL
from refstream.models.mllm.qwen_vl import QwenVL
from refstream.models.mllm.tokenizer import build_tiny_tokenizer, load_tokenizer
from refstream.models.mllm.window import DialogueWindow

__all__ = [
    "ChatTokens",
    "Dialogue",
    "DialogueWindow",
    "InternVL",
    "PromptBuilder",
    "QwenVL",
    "Turn",
    "build_tiny_tokenizer",
    "clean_expression",
    "load_tokenizer",
]
