"""Prepares a segmenter trained from scratch for boxes with judged points, as SAM2 comes prepared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from refstream.engine.pretraining import PromptedMaskLearner
from refstream.registry import LEARNERS
from refstream.structures import SegPrompt

from .geometry import grid_points, jitter_box, mask_box, point_labels, to_square

NO_POINT = -1


@LEARNERS.register_module()
class JudgedPointsLearner(PromptedMaskLearner):
    """The segmenter on boxes that are not quite right, and on grids of points in them, judged rightly.

    A released SAM2 reads any number of points. One that was trained on single points alone does not: 25 of
    them make its masks worse than the box does.

    Args:
        jitter: How far edges of boxes move, see ``jitter_box``.
        kept: Each point is kept with a probability drawn from [kept, 1].
        boxes_alone: Share of batches without points.
        points_alone: Share of batches without boxes.
        grid: Points per side.
        keys: Of ``PromptedMaskLearner``.

    Raises:
        ValueError: For shares that are none.
    """

    def __init__(
        self,
        jitter: float = 0.1,
        kept: float = 0.2,
        boxes_alone: float = 0.25,
        points_alone: float = 0.15,
        grid: int = 5,
        **keys: Any,
    ) -> None:
        super().__init__(**keys)
        shares = (kept, boxes_alone, points_alone, boxes_alone + points_alone)
        if not 0 <= jitter < 0.5 or not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"jitter must lie in [0, 0.5) and shares in [0, 1], got {jitter} and {shares}")
        self.jitter, self.kept, self.grid = jitter, kept, grid
        self.boxes_alone, self.points_alone = boxes_alone, points_alone

    def _prompts(self, masks: Tensor, index: Tensor) -> tuple[SegPrompt, Tensor]:
        """Prompts of (N, S, S) masks, none of them empty; all of them are of objects that are there."""
        side = masks.shape[-1]
        tight = torch.stack([box for mask in masks if (box := mask_box(mask)) is not None])
        boxes = jitter_box(tight, self.jitter)
        grids = grid_points(boxes, self.grid)
        labels = torch.stack([point_labels(mask, grid) for mask, grid in zip(masks, grids, strict=True)])
        share = self.kept + (1 - self.kept) * float(torch.rand(()))
        left_out = (torch.rand(labels.shape) > share).to(labels.device)
        left_out[:, 0] &= ~left_out.all(1)  # never all of them
        labels = labels.masked_fill(left_out, NO_POINT)
        draw = float(torch.rand(()))
        alone, bare = draw < self.boxes_alone, draw > 1 - self.points_alone
        prompt = SegPrompt(
            box_xyxy=None if bare else to_square(boxes, side),
            points_xy=None if alone else to_square(grids, side),
            point_labels=None if alone else labels,
        )
        return prompt, torch.ones(len(masks), dtype=torch.bool, device=masks.device)
