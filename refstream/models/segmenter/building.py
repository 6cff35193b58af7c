"""Building ``Sam2VideoModel``: widths that transformers hard-codes, and the initialisation of ``sam2``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import Sam2VideoConfig, Sam2VideoModel

from refstream.models.segmenter.attention import TrunkAttention

TOKEN_STD = 0.02  # sam2/modeling/sam2_base.py, trunc_normal_
FUSER_SCALE = 1e-6  # sam2 configs, layer_scale_init_value


def empty_model(config: Sam2VideoConfig) -> Sam2VideoModel:
    """A model whose parameters and stored buffers hold no values yet, on the default device.

    transformers 5.17 fixes the width of memories at 64 (``Sam2VideoMemoryAttentionLayer``) whatever the
    configuration says; here they follow it. The trunk's attention is replaced by ours.
    """
    with torch.device("meta"):
        model = Sam2VideoModel(config)
        for layer in model.memory_attention.layers:
            attention: Any = layer.cross_attn_image
            if attention.k_proj.in_features != model.mem_dim:
                attention.k_proj = nn.Linear(model.mem_dim, attention.internal_dim)
                attention.v_proj = nn.Linear(model.mem_dim, attention.internal_dim)
        trunk: Any = model.vision_encoder.backbone
        for block in trunk.blocks:
            block.attn = TrunkAttention(block.attn)
    model.to_empty(device=torch.get_default_device())
    attention = model.memory_attention
    attention.rotary_emb = type(attention.rotary_emb)(config=config)
    attention.position_ids = attention.precompute_positions(config)
    return model


@torch.no_grad()
def initialise(model: Sam2VideoModel) -> None:
    """Random values as the ``sam2`` package draws them: every layer by torch's default.

    transformers draws all weights and embeddings with deviation 0.02, which leaves prompt and mask tokens
    small beside position encodings of size 1 and, in narrow models, starves every linear layer.
    """
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
    for name in (
        "no_memory_embedding",
        "no_memory_positional_encoding",
        "memory_temporal_positional_encoding",
        "no_object_pointer",
        "occlusion_spatial_embedding_parameter",
    ):
        parameter = getattr(model, name)
        if parameter is not None:
            nn.init.trunc_normal_(parameter, std=TOKEN_STD)
    trunk = model.vision_encoder.backbone
    nn.init.zeros_(trunk.pos_embed)
    nn.init.zeros_(trunk.pos_embed_window)
    for name, parameter in model.memory_encoder.memory_fuser.named_parameters():
        if name.endswith(".scale"):
            nn.init.constant_(parameter, FUSER_SCALE)
    matrix = model.prompt_encoder.shared_embedding.positional_embedding
    nn.init.normal_(matrix, std=model.config.prompt_encoder_config.scale)
    model.shared_image_embedding.positional_embedding.copy_(matrix)
