"""What the learners of this method share: truth at the segmenter's size, and features frame by frame."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refstream.structures import ImageFeatures, MaskPrediction

from .losses import true_iou


def square_truth(masks: Sequence[Tensor], size: int) -> Tensor:
    """N (T, H, W) bool -> (N, T, S, S) float32 in [0, 1], area-averaged to the segmenter's square."""
    return torch.stack(
        [
            mask.float()
            if mask.shape[-2:] == (size, size)
            else F.interpolate(mask[:, None].float(), (size, size), mode="area")[:, 0]
            for mask in masks
        ]
    )


def frames_of_rows(features: ImageFeatures, clips: Tensor, num_frames: int) -> list[ImageFeatures]:
    """Features of a batch of clips, frame by frame, for N expressions.

    Args:
        features: Of all images, T of the first clip, T of the second, and so on.
        clips: (N,) int64, which clip each expression speaks of.
        num_frames: T.

    Returns:
        T features: of one image if there is one clip, else of N.
    """
    if features.batch_size == num_frames:
        return [features[t] for t in range(num_frames)]
    return [features.take(clips * num_frames + t) for t in range(num_frames)]


def seeded(ids: Sequence[str]) -> np.random.Generator:
    """Random numbers that depend on the samples of a batch alone, so that a resumed run draws the same."""
    return np.random.default_rng([zlib.crc32(one.encode()) for one in ids])


def pairs(predictions: Sequence[MaskPrediction], truth: Tensor) -> dict[str, Tensor]:
    """Arguments of the loss: N predictions for each of F frames, and the truth (N, F, S, S), as F N pairs."""
    return {
        "mask_logits": torch.cat([p.mask_logits for p in predictions]),
        "target": truth.transpose(0, 1).flatten(0, 1),
        "pred_iou": torch.cat([p.pred_iou for p in predictions]),
        "object_score": torch.cat([p.object_score for p in predictions]),
    }


def mean_iou(pair: dict[str, Tensor]) -> Tensor:
    """Mean IoU of the pairs whose target is there, at the size of the logits; 0 if there are none."""
    logits, target = pair["mask_logits"], pair["target"]
    small = F.interpolate(target[:, None], logits.shape[-2:], mode="area")[:, 0]
    seen = target.flatten(1).any(1)
    values: Tensor = true_iou(logits, small)[seen]
    return values.mean() if len(values) else values.sum()
