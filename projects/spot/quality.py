"""Prompt quality: is the box that of the object, and is each point judged as it lies?

Source: SPOT (CVPR 2026), L_quality = L_box + L_class, unweighted: SmoothL1 between the box and the smallest
rectangle that holds the true mask, and binary cross-entropy with logits of the K points, summed over them.
Coordinates are in [0, 1] (assumed: in pixels the paper's weights would make no sense). There, SmoothL1 with
the usual beta = 1 is quadratic everywhere and too weak to hold a box against the bridge, hence beta = 1/9.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .geometry import full_precision

BETA = 1 / 9  # assumed
REDUCTIONS = ("sum", "mean")


def box_loss(boxes: Tensor, truth: Tensor, beta: float = BETA) -> Tensor:
    """SmoothL1 summed over the four coordinates.

    Args:
        boxes: (N, 4) xyxy in [0, 1].
        truth: (N, 4) likewise.
        beta: Where a quadratic turns into a line; 0 for L1.

    Returns:
        (N,) float32.

    Raises:
        ValueError: If the shapes differ.
    """
    if boxes.shape != truth.shape or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"need two (N, 4) boxes, got {tuple(boxes.shape)} and {tuple(truth.shape)}")
    given = full_precision(boxes)
    target = truth.to(given)
    return F.smooth_l1_loss(given, target, beta=beta, reduction="none").sum(1)


def point_loss(z: Tensor, labels: Tensor, reduction: str = "sum") -> Tensor:
    """Binary cross-entropy of the points' logits.

    Args:
        z: (N, K) logits, > 0 means on the object.
        labels: (N, K) 1 or 0.
        reduction: Over the K points: "sum" (paper; 17.3 for 25 undecided points) or "mean".

    Returns:
        (N,) float32.

    Raises:
        ValueError: If the shapes differ, or the reduction is unknown.
    """
    if z.shape != labels.shape or z.ndim != 2:
        raise ValueError(f"need (N, K) logits and labels, got {tuple(z.shape)} and {tuple(labels.shape)}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
    given = full_precision(z)
    losses = F.binary_cross_entropy_with_logits(given, labels.to(given), reduction="none")
    return losses.sum(1) if reduction == "sum" or z.shape[1] == 0 else losses.mean(1)
