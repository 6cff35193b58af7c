"""Mask losses: binary cross-entropy and Dice, dense or on sampled points.

Sources: StreamingRVOS (CVPR 2026), L = L_txt + L_bce + L_dice, all weights 1; the point sampling is that of
PointRend (CVPR 2020) as used by Mask2Former and by the released code: 12,544 points, of which 75 % are drawn
from the most uncertain of three times as many.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refstream.registry import LOSSES


def sigmoid_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy per mask: (N, ...) logits and targets in [0, 1] -> (N,) float32."""
    loss = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
    return loss.flatten(1).mean(1)


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """Dice loss per mask, 1 - (2 sum pg + 1) / (sum p + sum g + 1): (N, ...) -> (N,) float32."""
    p, g = logits.float().sigmoid().flatten(1), target.float().flatten(1)
    return 1 - (2 * (p * g).sum(1) + 1) / (p.sum(1) + g.sum(1) + 1)


def sample_points(
    logits: Tensor, num_points: int, oversample: float = 3.0, uncertain: float = 0.75
) -> Tensor:
    """Points where the masks are hardest: (N, h, w) logits -> (N, num_points, 2) xy in [0, 1]."""
    n = logits.shape[0]
    candidates = torch.rand(n, int(num_points * oversample), 2, device=logits.device)
    uncertainty = -read_points(logits, candidates).abs()
    num_hard = int(uncertain * num_points)
    hard = uncertainty.topk(num_hard, dim=1).indices
    picked = candidates.gather(1, hard[..., None].expand(-1, -1, 2))
    random = torch.rand(n, num_points - num_hard, 2, device=logits.device)
    return torch.cat([picked, random], dim=1)


def read_points(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of (N, h, w) maps at (N, P, 2) xy in [0, 1] -> (N, P) float32."""
    grid = 2 * points[:, :, None] - 1
    return F.grid_sample(maps[:, None].float(), grid.float(), align_corners=False)[:, 0, :, 0]


@LOSSES.register_module()
class MaskLoss(nn.Module):
    """Weighted BCE + Dice of N masks.

    Args:
        bce_weight: Paper 1.0; release 2.0.
        dice_weight: Paper 1.0; release 0.5.
        num_points: 0 for the dense loss; 12,544 in the release.
    """

    def __init__(self, bce_weight: float = 1.0, dice_weight: float = 1.0, num_points: int = 0) -> None:
        super().__init__()
        if num_points < 0 or bce_weight < 0 or dice_weight < 0:
            raise ValueError(
                f"weights and num_points must not be negative: {bce_weight}, {dice_weight}, {num_points}"
            )
        self.bce_weight, self.dice_weight, self.num_points = bce_weight, dice_weight, num_points

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
        """Compare masks at the resolution of the logits.

        Args:
            logits: (N, h, w).
            target: (N, H, W) bool or float in [0, 1]; resized by area averaging where the size differs.
            valid: (N,) bool or None; False rows do not count.

        Returns:
            ``loss_bce`` and ``loss_dice``: weighted means over valid masks, float32; 0 (with a graph)
            if there is none.
        """
        target = target.float()
        if target.shape[-2:] != logits.shape[-2:]:
            target = F.interpolate(target[:, None], logits.shape[-2:], mode="area")[:, 0]
        if self.num_points:
            with torch.no_grad():
                points = sample_points(logits.detach(), self.num_points)
            logits, target = read_points(logits, points), read_points(target, points)
        weight = torch.ones(len(logits), device=logits.device) if valid is None else valid.float()
        count = weight.sum().clamp(min=1)
        return {
            "loss_bce": self.bce_weight * (sigmoid_bce(logits, target) * weight).sum() / count,
            "loss_dice": self.dice_weight * (dice(logits, target) * weight).sum() / count,
        }


@LOSSES.register_module()
class FullSizeMaskLoss(MaskLoss):
    """``MaskLoss`` at the size of the truth: logits are enlarged bilinearly first, as they are for output."""

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
        """As ``MaskLoss.forward``."""
        full = F.interpolate(logits[:, None], target.shape[-2:], mode="bilinear", align_corners=False)
        return super().forward(full[:, 0], target, valid)
