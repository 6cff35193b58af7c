"""Building transformers' SAM models: widths that it hard-codes, and the initialisation of Meta's packages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import Sam2VideoConfig, Sam2VideoModel, SamConfig, SamModel

from refstream.models.segmenter.attention import TrunkAttention

TOKEN_STD = 0.02  # sam2/modeling/sam2_base.py, trunc_normal_
FUSER_SCALE = 1e-6  # sam2 configs, layer_scale_init_value
POSITION_MATRICES = ("shared_image_embedding", "prompt_encoder.shared_embedding")  # equal, of both models


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


def empty_sam1(config: SamConfig) -> SamModel:
    """A SAM 1 whose parameters hold no values yet, on the default device.

    The random matrix of the position encoding is a buffer, as in the ``segment_anything`` package; in
    transformers 5.17 it is a parameter.
    """
    with torch.device("meta"):
        model = SamModel(config)
    model.to_empty(device=torch.get_default_device())
    for name in POSITION_MATRICES:
        module: Any = model.get_submodule(name)
        matrix = module.positional_embedding.detach()
        del module.positional_embedding
        module.register_buffer("positional_embedding", matrix)
    return model


@torch.no_grad()
def initialise_sam1(model: SamModel) -> None:
    """Random values as the ``segment_anything`` package draws them: every layer by torch's default.

    transformers draws the image encoder with deviation 1e-10 and the position matrix with hundreds.
    """
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
    for name, parameter in model.vision_encoder.named_parameters():
        if name.endswith(("pos_embed", "rel_pos_h", "rel_pos_w")):
            nn.init.zeros_(parameter)
    first, second = (model.get_buffer(f"{name}.positional_embedding") for name in POSITION_MATRICES)
    nn.init.normal_(first)
    second.copy_(first)


@contextlib.contextmanager
def float32_positions(model: nn.Module) -> Iterator[None]:
    """Whatever casts ``model`` inside leaves the buffers of its ``POSITION_MATRICES`` in float32."""
    modules: list[Any] = [model.get_submodule(name) for name in POSITION_MATRICES]
    kept = [module.positional_embedding for module in modules]
    yield
    for module, before in zip(modules, kept, strict=True):
        after = module.positional_embedding
        if after.dtype != before.dtype and before.dtype == torch.float32 and not after.is_meta:
            module.positional_embedding = before.to(after.device)
