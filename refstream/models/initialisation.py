"""Initial weights for models that are trained from scratch and are far smaller than the released ones.

Released weights never pass through here. Two things keep a small model from starting, both found by
measuring: tokens of very different scale drown each other, and random attention looks nowhere. So every kind
of token gets scale 1, and query and key projections start equal (``matched``): attention then begins with
tokens of similar place and content, as it does in trained transformers (Trockman and Kolter, Mimetic
Initialization of Self-Attention Layers, ICML 2023).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from refstream.models.mllm.internvl import InternVL
from refstream.models.segmenter.sam2 import Sam2Segmenter


def matched(query: nn.Linear, key: nn.Linear, num_heads: int, gain: float) -> None:
    """Give a query and a key projection the same rows, orthogonal within each head, times ``gain``."""
    for rows in torch.arange(query.out_features).chunk(num_heads):
        weight = torch.empty(len(rows), query.in_features)
        nn.init.orthogonal_(weight, gain=gain)
        query.weight[rows] = weight.to(query.weight)
        key.weight[rows] = weight.to(key.weight)
    for layer in (query, key):
        if layer.bias is not None:
            layer.bias.zero_()


@torch.no_grad()
def initialise_segmenter(
    segmenter: Sam2Segmenter, *, attention_gain: float = 2.4, patch_gain: float = 2.5
) -> None:
    """Prepare a reduced SAM2 for training on prompts; in place.

    Args:
        segmenter: With fresh weights.
        attention_gain: Of the matched projections between tokens and image. With the position codes of
            SAM2 they make every prompt look at its own place, and every place at the prompt nearby.
        patch_gain: Factor on the patch embedding.

    Raises:
        ValueError: For a segmenter of another kind.
    """
    if not isinstance(segmenter, Sam2Segmenter):
        raise ValueError(
            f"initialise prepares a Sam2Segmenter, got {type(segmenter).__name__}: leave segmenter out of it"
        )
    model = segmenter.model
    model.vision_encoder.backbone.patch_embed.projection.weight.mul_(patch_gain)
    names = ("cross_attn_token_to_image", "cross_attn_image_to_token", "final_attn_token_to_image")
    for name, module in model.mask_decoder.named_modules():
        if name.endswith(names):
            weight = torch.empty_like(module.q_proj.weight)
            nn.init.orthogonal_(weight, gain=attention_gain)
            module.q_proj.weight.copy_(weight)
            module.k_proj.weight.copy_(weight)
    fourier = model.shared_image_embedding.positional_embedding
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(fourier)


@torch.no_grad()
def initialise_mllm(
    mllm: InternVL, *, word_std: float = 1.0, attention_gain: float = 1.2, language_gain: float = 1.0
) -> None:
    """Prepare a tiny InternVL for training from scratch; in place.

    Args:
        mllm: With fresh weights.
        word_std: Standard deviation of word embeddings (transformers: 0.02, drowned by image tokens).
        attention_gain: Of the matched projections of the vision tower; its positions start as sines.
        language_gain: Of the matched projections of the language model; its heads must not share keys.
    """
    nn.init.normal_(mllm.word_embeddings.weight, std=word_std)
    tower = mllm.model.model.vision_tower
    patches, width = tower.embeddings.patch_embeddings.projection, tower.config.hidden_size
    nn.init.normal_(patches.weight, std=0.8 / math.sqrt(patches.weight[0].numel()))
    side = mllm.image_size // patches.kernel_size[0]
    tower.embeddings.position_embeddings[:, 1:] = 0.7 * sine_positions(side, width).to(patches.weight)
    for layer in tower.encoder.layer:
        matched(layer.attention.q_proj, layer.attention.k_proj, layer.attention.num_heads, attention_gain)
    for block in mllm.model.model.language_model.layers:
        heads = mllm.config.text_config.num_attention_heads
        matched(block.self_attn.q_proj, block.self_attn.k_proj, heads, language_gain)
    projector = mllm.model.model.multi_modal_projector
    for linear in (projector.linear_1, projector.linear_2):
        nn.init.normal_(linear.weight, std=1.2 / math.sqrt(linear.in_features))


def sine_positions(side: int, width: int) -> Tensor:
    """(side * side, width) float32 sines and cosines of x and y, from half a wave to half the grid's rate."""
    if width % 4:
        raise ValueError(f"the width must be a multiple of 4, got {width}")
    rates = torch.exp(torch.linspace(math.log(math.pi / 2), math.log(math.pi * side / 2), width // 4))
    centres = (torch.arange(side) + 0.5) / side
    y, x = (axis.reshape(-1, 1) * rates for axis in torch.meshgrid(centres, centres, indexing="ij"))
    return torch.cat((x.sin(), x.cos(), y.sin(), y.cos()), dim=1)
