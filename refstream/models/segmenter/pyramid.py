"""The neck of SAM2's image encoder, without the position maps that transformers makes for every level."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor
from transformers import Sam2VideoModel


def pyramid(model: Sam2VideoModel, stages: Sequence[Tensor]) -> list[Tensor]:
    """Trunk stages -> feature maps for the decoder.

    Levels named in ``fpn_top_down_levels`` receive the level below, enlarged by repetition.

    Args:
        stages: (B, h, w, C_i) of every stage, high to low resolution.

    Returns:
        (B, C, h, w) of every level but the lowest, high to low resolution.
    """
    neck = model.vision_encoder.neck
    maps: list[Tensor] = []
    for level in range(len(stages) - 1, -1, -1):
        lateral = neck.convs[len(stages) - 1 - level](stages[level].permute(0, 3, 1, 2))
        if maps and level in neck.fpn_top_down_levels:
            lateral = lateral + F.interpolate(maps[0], scale_factor=2.0, mode="nearest")
        maps.insert(0, lateral)
    return maps[: model.num_feature_levels]
