"""A toy Qwen2.5-VL, and the same of transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

from refstream.models.mllm import QwenVL, Turn, build_tiny_tokenizer
from refstream.models.mllm.chat_tokens import ChatTokens

D = 32
SIZE = (56, 84)  # 2 x 3 tokens
TOKENS = 6


def toy_config(*, tied: bool = True, **text: object) -> dict:
    return {
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 40,
            "num_heads": 2,
            "out_hidden_size": D,
            "fullatt_block_indexes": [1],
            "window_size": 56,  # so that an image has several windows
        },
        "text_config": {
            "hidden_size": D,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 8,
            "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 1, 1]},
            **text,
        },
        "tie_word_embeddings": tied,
    }


def build(*, tied: bool = True, seed: int = 0, **options: object) -> QwenVL:
    torch.manual_seed(seed)
    settings = {"image_size": SIZE, **options}
    mllm = QwenVL(toy_config(tied=tied), build_tiny_tokenizer(["red", "circle", "now"]), **settings).eval()
    with torch.no_grad():  # weights of 0.02 would hide wrong positions
        for parameter in mllm.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)
    return mllm


def images(count: int = 2, height: int = 56, width: int = 84) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def processor(**options: object) -> Qwen2VLImageProcessor:
    return Qwen2VLImageProcessor(**options)


def plain_class(mllm: QwenVL, folder: Path) -> Qwen2_5_VLForConditionalGeneration:
    """An independent instance of transformers' class, loaded by its own loader from our folder."""
    mllm.save_pretrained(folder)
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(folder).eval()


def plain_inputs(chat: ChatTokens, frames: list[np.ndarray]) -> dict[str, Tensor]:
    """What transformers' processor would hand to its class for these token numbers and images."""
    vision = processor(do_resize=False)(frames, return_tensors="pt")
    return {
        "input_ids": chat.input_ids,
        "attention_mask": chat.attention_mask.long(),
        "mm_token_type_ids": chat.image_positions.int(),
        **vision,
    }


def stream(count: int, answers: tuple[str, ...] = ("red", "now red circle", "")) -> list[Turn]:
    return [
        Turn(f"<{k}s-{k + 1}s> red circle" * (1 + k % 2), answers[k % len(answers)], images=1)
        for k in range(count)
    ]


def same(a: QwenVL, b: QwenVL) -> None:
    frames, turns = images(2), [stream(2)]
    with torch.no_grad():
        expected, found = (
            m.forward_chat(m.prompts.turns(turns), m.encode_images(m.preprocess(frames)), with_logits=True)
            for m in (a, b)
        )
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-6, rtol=1e-5)
