"""State-aware focal loss: rare states and hard decisions weigh more, everything else is cross-entropy.

Source: Streamo, section on the loss, and its released code. For a supervised token i with target c and p the
probability of c over the whole vocabulary

    L_i = alpha_c (1 - p)^gamma CE_i    where c is a state,    alpha_c = sum_k n_k / (|S| n_c)
    L_i = CE_i                          elsewhere

and the loss is sum_i L_i / N over all N supervised tokens. What the n are counted over is ``alpha``: the
paper says "batch"; the release counts every call by itself, so that its loss depends on micro-batch, packing
and ranks. |S| is 3 in the paper, and the number of states that occur in the release. (1 - p)^gamma has a
gradient (release). Everything is computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refstream.registry import LOSSES

from .states import STATES, StateIds

SCOPES = ("sample", "micro", "global", "ema", "fixed")
CLASSES = ("present", "all")
FIXED_SCALES = (0.3, 1.3, 2.0)  # paper's ablation: silence, standby, response


@LOSSES.register_module()
class StateFocalLoss(nn.Module):
    """See the module.

    Args:
        gamma: Exponent; 0 for none. Cross-entropy is ``gamma=0, alpha=None``.
        alpha: What the states are counted over: "sample" (every dialogue alone), "micro" (one call: release),
            "global" (all that makes up an optimizer step), "ema" (a running mean of that), "fixed" (nothing
            is counted, the weights are ``scales``), None (the weights are 1).
        classes: |S|: "present" (release) or "all" (paper: 3).
        scales: Weights of silence, standby and response for "fixed".
        momentum: Share of the past in the running mean.
        detach: Give (1 - p)^gamma no gradient.

    Raises:
        ValueError: For unknown names and numbers out of range.
    """

    average: Tensor

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: str | None = "global",
        classes: str = "present",
        scales: Sequence[float] = FIXED_SCALES,
        momentum: float = 0.9,
        detach: bool = False,
    ) -> None:
        super().__init__()
        if gamma < 0 or not 0 <= momentum < 1:
            raise ValueError(f"need gamma >= 0 and 0 <= momentum < 1, got {gamma} and {momentum}")
        if (alpha is not None and alpha not in SCOPES) or classes not in CLASSES:
            raise ValueError(
                f"alpha must be None or one of {SCOPES}, classes one of {CLASSES}; got {alpha!r} and "
                f"{classes!r}"
            )
        if len(scales) != len(STATES) or min(scales) < 0:
            raise ValueError(f"scales must be three numbers, not negative, for {STATES}, got {scales}")
        self.gamma, self.alpha, self.classes = gamma, alpha, classes
        self.scales, self.momentum, self.detach = tuple(map(float, scales)), momentum, detach
        if alpha == "ema":
            self.register_buffer("average", torch.full((len(STATES),), -1.0))  # negative: nothing seen yet

    def observe(self, counts: Tensor) -> None:
        """Take (3,) counts into the running mean, which begins as the first of them; once per step."""
        fresh = counts.to(self.average)
        seen = self.momentum * self.average + (1 - self.momentum) * fresh
        self.average.copy_(torch.where(self.average < 0, fresh, seen))

    def alphas(self, counts: Tensor) -> Tensor:
        """(..., 3) counts -> (..., 3) float32 weights; 1 for a state that does not occur."""
        counts = counts.float()
        present = counts > 0
        kinds = present.sum(-1, keepdim=True) if self.classes == "present" else len(STATES)
        weights = counts.sum(-1, keepdim=True) / (kinds * counts.clamp(min=torch.finfo(torch.float32).tiny))
        return torch.where(present, weights, 1.0)

    def token_losses(
        self,
        logits: Tensor,
        targets: Tensor,
        states: StateIds,
        *,
        rows: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """(M,) float32 losses of M supervised tokens, see ``forward``."""
        cross_entropy = F.cross_entropy(logits.float(), targets, reduction="none")
        match = targets[:, None] == torch.tensor(states.all, device=targets.device)  # (M, 3)
        weight = self._alpha_of(match, rows, counts)
        if self.gamma:
            doubt = -torch.expm1(-cross_entropy)  # 1 - p
            doubt = (doubt.detach() if self.detach else doubt).clamp(min=1e-12)
            weight = weight * doubt**self.gamma
        return torch.where(match.any(1), weight, 1.0) * cross_entropy

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        states: StateIds,
        *,
        rows: Tensor | None = None,
        counts: Tensor | None = None,
        total: float | None = None,
    ) -> Tensor:
        """The loss, a float32 scalar with a graph; 0 for no token.

        Args:
            logits: (M, V) of any floating type, only where a token is supervised.
            targets: (M,) int64.
            states: Of the vocabulary.
            rows: (M,) int64, the dialogue of each token; for "sample", one dialogue if left out.
            counts: (3,) how often each state occurs in what ``alpha`` means; for "micro" and "global". None:
                in ``targets``.
            total: N; None: M.
        """
        losses = self.token_losses(logits, targets, states, rows=rows, counts=counts)
        return losses.sum() / (max(len(targets), 1) if total is None else total)

    def _alpha_of(self, match: Tensor, rows: Tensor | None, counts: Tensor | None) -> Tensor:
        """(M,) alpha of the tokens that are states; the others' means nothing."""
        if self.alpha is None:
            return torch.ones(len(match), device=match.device)
        kind = match.int().argmax(1)
        if self.alpha == "fixed":
            return torch.tensor(self.scales, device=match.device)[kind]
        if self.alpha == "sample":
            row = torch.zeros_like(kind) if rows is None else rows
            size = int(row.max()) + 1 if len(row) else 1
            found = torch.zeros(size, len(STATES), device=match.device).index_add_(0, row, match.float())
            return self.alphas(found)[row, kind]
        if self.alpha == "ema":
            if bool((self.average < 0).any()):
                raise ValueError("alpha 'ema' needs observe(counts) before the first loss")
            return self.alphas(self.average.to(match.device))[kind]
        found = match.sum(0) if counts is None else counts.to(match.device)
        return self.alphas(found)[kind]
