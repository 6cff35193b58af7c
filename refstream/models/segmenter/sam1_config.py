"""Configurations of ``SamModel``: the three public sizes, and the content of a ``config.json``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from transformers import SamConfig

SIZES: dict[str, dict[str, Any]] = {  # segment_anything/build_sam.py
    "base": dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12),
    "large": dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16),
    "huge": dict(hidden_size=1280, num_hidden_layers=32, num_attention_heads=16),
}


def sam1_config(config: SamConfig | Mapping[str, Any]) -> SamConfig:
    """Configuration from itself, ``config.json`` of transformers, or ``size``.

    Raises:
        ValueError: If it describes another kind of model, or its parts do not fit each other.
    """
    if isinstance(config, SamConfig):
        built = config
    elif "size" in config:
        if config["size"] not in SIZES or len(config) > 1:
            raise ValueError(f"SAM 1 has the sizes {sorted(SIZES)} and no other keys, got {dict(config)}")
        trunk = SIZES[config["size"]]
        quarter = trunk["num_hidden_layers"] // 4
        everywhere = [quarter * i - 1 for i in range(1, 5)]
        built = SamConfig(vision_config=dict(trunk, global_attn_indexes=everywhere))
    else:
        values = copy.deepcopy(dict(config))
        kind = values.pop("model_type", "sam")
        if kind != "sam":
            raise ValueError(f"expected a configuration of model_type 'sam', got {kind!r}")
        built = SamConfig(**values)
    _check(built)
    return built


def _check(config: Any) -> None:
    vision, prompt, decoder = config.vision_config, config.prompt_encoder_config, config.mask_decoder_config
    widths = {vision.output_channels, 2 * vision.num_pos_feats, prompt.hidden_size, decoder.hidden_size}
    if len(widths) > 1:
        raise ValueError(
            "SAM 1 needs one width of output_channels, 2 * num_pos_feats and both hidden_size, got "
            f"{sorted(widths)}"
        )
    if (vision.image_size, vision.patch_size) != (prompt.image_size, prompt.patch_size):
        raise ValueError(
            f"image and patch size of SAM 1's encoders differ: {(vision.image_size, vision.patch_size)} and "
            f"{(prompt.image_size, prompt.patch_size)}"
        )
