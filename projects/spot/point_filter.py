"""Which judged points become prompts.

Source: SPOT (CVPR 2026): "prompt points are filtered by confidence thresholds", without their values; those
here are of SAM4MLLM's demo: p(no) > 0.9 is background, else p(yes) > 0.75 foreground, else left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from refstream.errors import UserError

P_NO, P_YES = 0.9, 0.75  # SAM4MLLM's demo
NO_FOREGROUND = ("best", "box")


@dataclass(frozen=True)
class PointFilter:
    """The filter.

    Attributes:
        p_no: A point is background above it.
        p_yes: A point that is not background is foreground above it.
        no_foreground: Where no point is foreground: "best" makes the one with the highest p(yes) foreground
            if that is higher than its p(no), else the box stands alone; "box": it always does.

    Raises:
        UserError: For values out of range.
    """

    p_no: float = P_NO
    p_yes: float = P_YES
    no_foreground: str = NO_FOREGROUND[0]

    def __post_init__(self) -> None:
        if not (0 <= self.p_no <= 1 and 0 <= self.p_yes <= 1) or self.no_foreground not in NO_FOREGROUND:
            raise UserError(
                f"p_no and p_yes must lie in [0, 1] and no_foreground in {NO_FOREGROUND}; got {self.p_no}, "
                f"{self.p_yes} and {self.no_foreground!r}"
            )

    def __call__(self, p_yes: Tensor, p_no: Tensor) -> tuple[Tensor, Tensor, str]:
        """Sort K points.

        Args:
            p_yes: (K,) probability that a point lies on the object; K >= 1.
            p_no: (K,) that it does not; the two need not sum to 1.

        Returns:
            (K,) bool kept, (K,) bool foreground among them, and "best" or "box" where none was, else "".
        """
        background = p_no > self.p_no
        foreground = ~background & (p_yes > self.p_yes)
        fallback = ""
        if not bool(foreground.any()):
            fallback, best = "box", int(p_yes.argmax())
            if self.no_foreground == "best" and p_yes[best] > p_no[best]:
                fallback = "best"
                foreground[best], background[best] = True, False
            else:
                background = torch.zeros_like(background)
        return foreground | background, foreground, fallback
