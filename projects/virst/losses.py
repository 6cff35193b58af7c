"""The five losses: BCE, Dice, tokens, occlusion and IoU.

Source: VIRST (CVPR 2026), training objective: weights 1, 1, 1, 0.05 and 0.05. Details from the released code:
Dice sums are divided by 1000 before 1e-6 is added; the occlusion loss compares SAM2's object score with "the
truth is not empty"; the IoU loss is |predicted - true|, the true one being a constant. All but the tokens'
are averaged over the pairs of expression and supervised frame. The release counts the IoU loss twice, and
lets an object score <= 0 overwrite the mask with -1024, so that a false absence costs hundreds and teaches
the mask nothing: both are keys here, and off.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refstream.models.losses.mask import sigmoid_bce
from refstream.models.mllm.chat import IGNORE
from refstream.models.segmenter.sam2 import ABSENT_LOGIT
from refstream.registry import LOSSES

ABSENT_MODES = ("keep", "blank")
DICE_EPSILON = 1e-6
IOU_EPSILON = 1e-6


def scaled_dice(logits: Tensor, target: Tensor, scale: float = 1000.0) -> Tensor:
    """Dice loss per mask, 1 - (2 sum pg / s + e) / (sum p / s + sum g / s + e), e = 1e-6, s the scale.

    On an empty truth it is 0 only for areas far below e s, and grows with the predicted area.

    Args:
        logits: (P, h, w).
        target: (P, h, w) in [0, 1].
        scale: s.

    Returns:
        (P,) float32.
    """
    p, g = (logits.float().sigmoid() / scale).flatten(1), target.float().flatten(1)
    overlap, areas = (p * g).sum(1), p.sum(1) + (g / scale).sum(1)
    return 1 - (2 * overlap + DICE_EPSILON) / (areas + DICE_EPSILON)


def true_iou(logits: Tensor, target: Tensor, empty_iou: float = 0.0) -> Tensor:
    """IoU of predicted (probability > 0.5) and true masks: (P, h, w) twice -> (P,) float32, without a graph.

    Args:
        logits, target: (P, h, w); the truth is where the target exceeds 0.5.
        empty_iou: The value where both are empty: 0 as SAM2 and the release train it, 1 as DAVIS counts it.
    """
    predicted, truth = logits.float().sigmoid().flatten(1) > 0.5, target.flatten(1) > 0.5
    overlap, union = (predicted & truth).sum(1).float(), (predicted | truth).sum(1).float()
    return torch.where(union == 0, empty_iou, overlap / (union + IOU_EPSILON))


def ignore_targets(labels: Tensor, token_ids: Collection[int]) -> Tensor:
    """Labels without the tokens that stand for masks: the language model need not predict [ST] or [SEG].

    Args:
        labels: (B, L) int64, -100 where nothing is supervised.
        token_ids: Ids whose targets are dropped.

    Returns:
        (B, L) int64, a new tensor.
    """
    dropped = torch.isin(labels, torch.tensor(sorted(token_ids), dtype=labels.dtype, device=labels.device))
    return labels.masked_fill(dropped, IGNORE)


@LOSSES.register_module()
class VIRSTLoss(nn.Module):
    """Weighted losses of P pairs of expression and supervised frame, and of the tokens.

    Args:
        bce_weight: Paper and evaluation script 1; default of the release's arguments 2.
        dice_weight: Paper and evaluation script 1; default of the release's arguments 0.5.
        token_weight: Of the token cross-entropy.
        iou_weight: Of |predicted - true IoU|.
        occlusion_weight: Of the BCE of the object score.
        iou_twice: Count the IoU loss twice (release).
        absent: "keep" trains the mask whatever the object score says; "blank" overwrites it by -1024 where
            the score is <= 0, so that its pixels get no gradient (release).
        dice_scale: See ``scaled_dice``.
        empty_iou: See ``true_iou``.
    """

    def __init__(
        self,
        *,
        bce_weight: float = 1.0,
        dice_weight: float = 1.0,
        token_weight: float = 1.0,
        iou_weight: float = 0.05,
        occlusion_weight: float = 0.05,
        iou_twice: bool = False,
        absent: str = "keep",
        dice_scale: float = 1000.0,
        empty_iou: float = 0.0,
    ) -> None:
        super().__init__()
        weights = (bce_weight, dice_weight, token_weight, iou_weight, occlusion_weight)
        if min(weights) < 0:
            raise ValueError(f"weights must not be negative, got {weights}")
        if absent not in ABSENT_MODES:
            raise ValueError(f"absent must be one of {ABSENT_MODES}, got {absent!r}")
        if dice_scale <= 0:
            raise ValueError(f"dice_scale must be positive, got {dice_scale}")
        self.bce_weight, self.dice_weight, self.token_weight = bce_weight, dice_weight, token_weight
        self.iou_weight, self.occlusion_weight = iou_weight * (2 if iou_twice else 1), occlusion_weight
        self.absent, self.dice_scale, self.empty_iou = absent, dice_scale, empty_iou

    def forward(
        self,
        mask_logits: Tensor,
        target: Tensor,
        pred_iou: Tensor,
        object_score: Tensor,
        *,
        num_pairs: float | None = None,
        token_loss: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compare predictions with the truth, at the size of the truth.

        Args:
            mask_logits: (P, h, w), as the decoder made them: decode with ``blank_absent=False`` for "keep".
                Enlarged bilinearly where the truth is larger.
            target: (P, H, W) bool or float in [0, 1]; may be empty.
            pred_iou: (P,) the decoder's estimate for these masks.
            object_score: (P,) logits, > 0 means visible.
            num_pairs: What to divide the sums by; None: P. Where a step has several parts (accumulation,
                ranks): the pairs of all parts.
            token_loss: Scalar cross-entropy, already averaged, see ``ignore_targets``; None: no such term.

        Returns:
            Weighted scalars, float32: ``loss_bce``, ``loss_dice``, ``loss_iou``, ``loss_occlusion``, and
            ``loss_text`` if ``token_loss`` is given. All are 0 with a graph if P is 0.

        Raises:
            ValueError: If shapes do not fit, or masks were blanked although ``absent`` is "keep".
        """
        self._check(mask_logits, target, pred_iou, object_score)
        target = target.float()
        logits = mask_logits.float()
        if logits.shape[-2:] != target.shape[-2:]:
            logits = F.interpolate(logits[:, None], target.shape[-2:], mode="bilinear", align_corners=False)
            logits = logits[:, 0]
        if self.absent == "blank":
            logits = logits.masked_fill((object_score <= 0)[:, None, None], ABSENT_LOGIT)
        share = 1.0 / max(len(logits) if num_pairs is None else num_pairs, 1e-8)
        visible = (target.flatten(1).sum(1) > 0).float()
        iou_error = (pred_iou.float() - true_iou(logits, target, self.empty_iou)).abs()
        occlusion = F.binary_cross_entropy_with_logits(object_score.float(), visible, reduction="sum")
        losses = {
            "loss_bce": self.bce_weight * share * sigmoid_bce(logits, target).sum(),
            "loss_dice": self.dice_weight * share * scaled_dice(logits, target, self.dice_scale).sum(),
            "loss_iou": self.iou_weight * share * iou_error.sum(),
            "loss_occlusion": self.occlusion_weight * share * occlusion,
        }
        if token_loss is not None:
            losses["loss_text"] = self.token_weight * token_loss.float()
        return losses

    def _check(self, mask_logits: Tensor, target: Tensor, pred_iou: Tensor, object_score: Tensor) -> None:
        pairs = (len(mask_logits),)
        if mask_logits.ndim != 3 or target.ndim != 3 or len(target) != len(mask_logits):
            raise ValueError(
                f"expected logits (P, h, w) and truth (P, H, W), got {tuple(mask_logits.shape)} and "
                f"{tuple(target.shape)}"
            )
        if tuple(pred_iou.shape) != pairs or tuple(object_score.shape) != pairs:
            raise ValueError(
                f"pred_iou and object_score must be {pairs}, got {tuple(pred_iou.shape)} and "
                f"{tuple(object_score.shape)}"
            )
        blanked = (mask_logits == ABSENT_LOGIT).flatten(1).all(1)
        if self.absent == "keep" and bool(blanked.any()):
            raise ValueError(
                f"{int(blanked.sum())} masks are {ABSENT_LOGIT} everywhere: the segmenter blanked them, and "
                'no gradient is left; decode with blank_absent=False, or set absent="blank" (release)'
            )
