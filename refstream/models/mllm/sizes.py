"""Sizes of the released InternVL2.5 models, and what follows from a size."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from refstream.models.mllm import tokens as T

_VISION_300M = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "attention_bias": True,
    "image_size": 448,
    "patch_size": 14,
}
_QWEN2_5 = {
    "model_type": "qwen2",
    "vocab_size": 151674,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}
SIZES: dict[str, dict[str, Any]] = {
    "internvl2_5-1b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
    },
    "internvl2_5-4b": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
    },
}
"""Language models of the released sizes (InternVL 2.5, table 2); all share InternViT-300M."""


def released_config(name: str) -> dict[str, Any]:
    """Arguments of ``InternVLConfig`` for a released size, with room for the added tokens.

    Raises:
        ValueError: for a name that is not in ``SIZES``.
    """
    if name not in SIZES:
        raise ValueError(f"unknown size {name!r}, expected one of {sorted(SIZES)}")
    text = {**_QWEN2_5, **SIZES[name]}
    text["vocab_size"] += len(T.ADDED_TOKENS)
    return {"vision_config": dict(_VISION_300M), "text_config": text, "downsample_ratio": 0.5}


def restore_rotary(model: nn.Module, device: torch.device) -> None:
    """Recompute the rotary tables in float32: no checkpoint holds them and no cast may round them."""
    for module in model.modules():
        if not hasattr(module, "inv_freq") or not hasattr(module, "rope_type"):
            continue
        fresh = type(module)(module.config)
        module.inv_freq = fresh.inv_freq.float().to(device)
        module.original_inv_freq = fresh.inv_freq.float().to(device)


def prepare_config(config: Any, tokenizer: PreTrainedTokenizerFast) -> int:
    """Set in an ``InternVLConfig`` what follows from tokenizer and sizes; return the tokens per tile."""
    vision, text = config.vision_config, config.text_config
    # transformers' InternVLConfig ties by default, all released InternVL2.5 weights have their own lm_head
    config.tie_word_embeddings = False
    text.tie_word_embeddings = False
    if len(set(vision.image_size)) != 1 or len(set(vision.patch_size)) != 1:
        raise ValueError(
            f"tiles must be square, got image {vision.image_size} with patches {vision.patch_size}"
        )
    side = vision.image_size[0] // vision.patch_size[0]
    factor = round(1 / config.downsample_ratio)
    if vision.image_size[0] % vision.patch_size[0] or side % factor:
        raise ValueError(
            f"image_size {vision.image_size[0]} must be a multiple of {factor} x patch_size "
            f"({vision.patch_size[0]})"
        )
    config.image_seq_length = (side // factor) ** 2
    config.image_token_id = T.special_ids(tokenizer).image_context
    text.vocab_size = max(text.vocab_size, len(tokenizer))
    return config.image_seq_length
