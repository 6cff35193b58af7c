"""Prompts -> tokens and maps of SAM2's prompt encoder.

Positions are encoded in float32 and then cast; transformers' own prompt encoder does it in the dtype of the
model, which in bfloat16 moves points by several pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Sam2VideoModel

from refstream.models.segmenter.position import random_fourier
from refstream.structures import SegPrompt

FIRST_CORNER = 2  # label of the upper left corner of a box; the lower right one follows


def embed_points(model: Sam2VideoModel, points: Tensor, labels: Tensor) -> Tensor:
    """Tokens of points.

    Args:
        points: (N, K, 2) x, y in pixels of the square input.
        labels: (N, K) 1 foreground, 0 background, 2 and 3 corners of a box, -1 no point.

    Returns:
        (N, K, C) in the dtype of the weights.
    """
    encoder = model.prompt_encoder
    places = (points.float() + 0.5) / model.config.image_size  # centre of the pixel
    place = random_fourier(places, encoder.shared_embedding.positional_embedding)
    kind = encoder.point_embed(labels.clamp(min=0).long())
    return torch.where(labels[..., None] < 0, encoder.not_a_point_embed.weight, place.to(kind.dtype) + kind)


def null_points(model: Sam2VideoModel, num_prompts: int, count: int) -> Tensor:
    """(N, count, C): the token that stands for no point."""
    return model.prompt_encoder.not_a_point_embed.weight.expand(num_prompts, count, -1)


def embed_masks(model: Sam2VideoModel, mask_logits: Tensor) -> Tensor:
    """(N, 1, h, w) logits of any size, resized to S / 4 -> (N, C, h16, w16) dense prompt."""
    size = model.prompt_encoder.mask_input_size
    if mask_logits.shape[-2:] != size:
        mask_logits = F.interpolate(
            mask_logits.float(), size, mode="bilinear", align_corners=False, antialias=True
        )
    layers = model.prompt_encoder.mask_embed
    return layers(mask_logits.to(layers.conv1.weight))


def sparse_tokens(
    model: Sam2VideoModel, prompt: SegPrompt | None, num_prompts: int, padded: bool = True
) -> Tensor:
    """(N, K, C): box corners, points, one null point; then the embedding.

    Without points and box: two null points where there is an embedding or no prompt at all (the ``sam2``
    package while tracking, Sa2VA), none where there is a mask alone (the package's image predictor).
    With ``padded=False`` an embedding gets no null points: it takes the place of all other tokens.

    Raises:
        ValueError: If a part has the wrong shape.
    """
    weight = model.prompt_encoder.not_a_point_embed.weight
    tokens = []
    if prompt is not None and prompt.box_xyxy is not None:
        if prompt.box_xyxy.shape != (num_prompts, 4):
            raise ValueError(f"boxes must be (N, 4), got {tuple(prompt.box_xyxy.shape)}")
        corners = prompt.box_xyxy.to(weight.device).reshape(num_prompts, 2, 2)
        labels = torch.arange(FIRST_CORNER, FIRST_CORNER + 2, device=weight.device)
        tokens.append(embed_points(model, corners, labels.expand(num_prompts, 2)))
    if prompt is not None and prompt.points_xy is not None and prompt.point_labels is not None:
        if prompt.points_xy.shape != (*prompt.point_labels.shape, 2):
            raise ValueError(
                f"points must be (N, K, 2) and labels (N, K), got {tuple(prompt.points_xy.shape)} and "
                f"{tuple(prompt.point_labels.shape)}"
            )
        tokens.append(
            embed_points(model, prompt.points_xy.to(weight.device), prompt.point_labels.to(weight.device))
        )
    embedding = None if prompt is None else prompt.embedding
    mask_alone = prompt is not None and embedding is None and not tokens
    bare = mask_alone or (embedding is not None and not padded)
    tokens.append(null_points(model, num_prompts, 0 if bare else 1 if tokens else 2))
    if embedding is not None:
        if embedding.ndim != 3 or embedding.shape[2] != weight.shape[1]:
            raise ValueError(f"embeddings must be (N, K, {weight.shape[1]}), got {tuple(embedding.shape)}")
        tokens.append(embedding.to(weight))
    return torch.cat(tokens, dim=1)


def dense_position(model: Sam2VideoModel) -> Tensor:
    """(1, C, h16, w16) position encoding of the image for the mask decoder, in the dtype of the weights."""
    matrix = model.shared_image_embedding.positional_embedding
    height, width = model.prompt_encoder.image_embedding_size
    y = (torch.arange(height, device=matrix.device, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, device=matrix.device, dtype=torch.float32) + 0.5) / width
    grid = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)
    return random_fourier(grid, matrix).permute(2, 0, 1)[None].to(model.no_memory_embedding.dtype)
