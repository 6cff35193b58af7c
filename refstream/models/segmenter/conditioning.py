"""Memory attention and memory encoder of SAM2, over transformers' layers.

Written out here because transformers' own drivers fix the feature grid at construction, compute position
tables in the dtype of the model, and are bound to their inference session.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Sam2VideoModel

from refstream.models.segmenter.memory import MemoryRead
from refstream.models.segmenter.position import axial_rotary, sine_1d, sine_grid
from refstream.structures import ImageFeatures

POSITION_WEIGHT = (
    0.1  # share of the position encoding added to the queries, sam2/modeling/memory_attention.py
)


def memory_map(model: Sam2VideoModel, embedding: Tensor, mask: Tensor) -> Tensor:
    """Memory encoder: fuse a stride-16 map (1 or N, C, h16, w16) with masks (N, 1, S, S), any range.

    Returns:
        (N, C_mem, h16, w16).
    """
    encoder = model.memory_encoder
    fused = encoder.feature_projection(embedding) + encoder.mask_downsampler(mask.to(embedding.dtype))
    return encoder.projection(encoder.memory_fuser(fused))


def encode_memory(
    model: Sam2VideoModel,
    embedding: Tensor,
    mask_logits: Tensor,
    object_score: Tensor,
    binarise: bool,
    dtype: torch.dtype | None = torch.bfloat16,
) -> Tensor:
    """Turn a frame and its mask into a memory map.

    Args:
        embedding: (1 or N, C, h16, w16) stride-16 map without any memory.
        mask_logits: (N, h, w) float32 low-resolution logits.
        object_score: (N,) float32 visibility logits.
        binarise: Use the hard mask (frames with a prompt) instead of probabilities.
        dtype: Of the result; None: that of the weights.

    Returns:
        (N, C_mem, h16, w16).
    """
    height, width = 16 * embedding.shape[2], 16 * embedding.shape[3]
    logits = F.interpolate(
        mask_logits[:, None].float(), (height, width), mode="bilinear", align_corners=False
    )
    mask = (logits > 0).float() if binarise else logits.sigmoid()
    mask = mask * model.config.sigmoid_scale_for_mem_enc + model.config.sigmoid_bias_for_mem_enc
    memory = memory_map(model, embedding, mask)
    absent_embedding = model.occlusion_spatial_embedding_parameter
    if absent_embedding is not None:
        absent = (object_score <= 0).to(memory.dtype)[:, None, None, None]
        memory = memory + absent * absent_embedding[:, :, None, None]
    return memory if dtype is None else memory.to(dtype)


def _map_tokens(
    model: Sam2VideoModel, read: MemoryRead, dtype: torch.dtype
) -> tuple[list[Tensor], list[Tensor]]:
    """Tokens (N, h16 * w16, C_mem) and positions (1, h16 * w16, C_mem) of every map."""
    tokens, positions = [], []
    for entry, row in read.maps:
        if entry.features is None:
            raise ValueError(f"memory of frame {entry.frame_index} is read as a map but holds only a pointer")
        _, channels, height, width = entry.features.shape
        tokens.append(entry.features.flatten(2).transpose(1, 2).to(dtype))
        grid = sine_grid(channels, height, width, entry.features.device).flatten(2).transpose(1, 2)
        positions.append(grid.to(dtype) + model.memory_temporal_positional_encoding[row])
    return tokens, positions


def _pointer_tokens(model: Sam2VideoModel, read: MemoryRead, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Tokens (N, P * C / C_mem, C_mem), positions (1, ..., C_mem); a pointer is cut into C / C_mem tokens."""
    pointers = torch.stack([entry.pointer for entry, _ in read.pointers], dim=1).to(dtype)
    num_objects, count, channels = pointers.shape
    splits = channels // model.mem_dim
    if model.config.enable_temporal_pos_encoding_for_object_pointers:
        distance = torch.tensor([d for _, d in read.pointers], dtype=torch.float32, device=pointers.device)
        table = sine_1d(distance / read.pointer_span, channels).to(dtype)
        position = model.temporal_positional_encoding_projection_layer(table)
    else:
        position = pointers.new_zeros(count, model.mem_dim)
    tokens = pointers.reshape(num_objects, count * splits, model.mem_dim)
    return tokens, position.repeat_interleave(splits, dim=0)[None]


def attend_memory(
    model: Sam2VideoModel,
    queries: Tensor,
    memory: Tensor,
    position: Tensor,
    grid: tuple[int, int],
    pointers: int,
) -> Tensor:
    """Run the memory attention layers.

    Args:
        queries: (N, h16 * w16, C) with their share of the position encoding.
        memory: (N, L, C_mem) maps, then pointers.
        position: (1, L, C_mem).
        grid: (h16, w16); the rotary table is built for it and repeated for every map.
        pointers: How many of the last tokens are pointers, which are not rotated.

    Returns:
        (N, h16 * w16, C).
    """
    config = model.config
    head_dim = config.memory_attention_hidden_size // (
        config.memory_attention_downsample_rate * config.memory_attention_num_attention_heads
    )
    theta = float(config.rope_parameters["rope_theta"])
    rotary = axial_rotary(head_dim, *grid, theta, queries.device)
    output = queries[:, None]
    for layer in model.memory_attention.layers:
        output = layer(
            queries=output,
            keys=memory[:, None],
            key_point_embedding=position[:, None],
            rope_position_embeddings=rotary,
            num_k_exclude_rope=pointers,
        )
    return model.memory_attention.layer_norm(output)[:, 0]


def fuse_memory(model: Sam2VideoModel, features: ImageFeatures, read: MemoryRead) -> Tensor:
    """Condition a frame on what is read of the memory.

    Returns:
        (N, C, h16, w16), N the number of objects in the memory.

    Raises:
        ValueError: If features and memory do not fit in number or size.
    """
    embedding = features.embedding
    _, channels, height, width = embedding.shape
    tokens, positions = _map_tokens(model, read, embedding.dtype)
    num_pointers = 0
    if read.pointers:
        pointer_tokens, pointer_position = _pointer_tokens(model, read, embedding.dtype)
        tokens.append(pointer_tokens)
        positions.append(pointer_position)
        num_pointers = pointer_tokens.shape[1]
    num_objects = tokens[0].shape[0]
    if embedding.shape[0] not in (1, num_objects):
        raise ValueError(
            f"features of {embedding.shape[0]} images do not fit a memory of {num_objects} objects"
        )
    for entry, _ in read.maps:
        if entry.features is not None and entry.features.shape[2:] != embedding.shape[2:]:
            raise ValueError(
                f"memory was made on a {tuple(entry.features.shape[2:])} grid, features are {(height, width)}"
            )
    queries = embedding + POSITION_WEIGHT * features.position.to(embedding.dtype)
    queries = queries.flatten(2).transpose(1, 2).expand(num_objects, -1, -1)
    memory, position = torch.cat(tokens, dim=1), torch.cat(positions, dim=1)
    fused = attend_memory(model, queries, memory, position, (height, width), num_pointers)
    return fused.transpose(1, 2).reshape(num_objects, channels, height, width)
