"""Prepares the memory of a segmenter trained from scratch, as SAM2 comes prepared: true prompts on clips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from refstream.data.collate import ClipBatch
from refstream.models.segmenter.prompts import FIRST_CORNER, embed_points
from refstream.registry import LEARNERS, LOSSES
from refstream.structures import MaskPrediction

from .rollout import frames_of_rows, mean_iou, pairs, seeded, square_truth
from .tracker import Tracker

NO_POINT, FOREGROUND = -1, 1


@LEARNERS.register_module()
class PromptedClipLearner:
    """The segmenter tracks through clips what true boxes and masks of some frames show it.

    Frame 0 is an anchor, and up to ``more_anchors`` random frames. Only expressions whose target is to be
    seen on frame 0 take part; where it is hidden on a later anchor, the prompt is a point on the background,
    which teaches the object score. Source: SAM 2 (arXiv 2408.00714), training on prompted clips.

    Args:
        loss: Config of the loss; ``VIRSTLoss`` with SAM2's weight for the object score by default.
        memory: Config of the memory.
        true_masks: Share of clips whose frame 0 is remembered by its true mask in place of a box' mask.
        more_anchors: Most anchors besides frame 0.
        multimask: See ``tracker.Tracker``.
    """

    def __init__(
        self,
        loss: dict[str, Any] | None = None,
        memory: Mapping[str, Any] | None = None,
        true_masks: float = 0.5,
        more_anchors: int = 2,
        multimask: bool = True,
    ) -> None:
        if not 0 <= true_masks <= 1 or more_anchors < 0:
            raise ValueError(
                f"true_masks must be in [0, 1] and more_anchors not negative, got {true_masks} and "
                f"{more_anchors}"
            )
        self.loss = LOSSES.build(loss or dict(type="VIRSTLoss", iou_weight=0.5))
        self.memory = dict(memory or dict(type="tdau", anchors="recent", blank_absent=False, map_dtype=None))
        self.true_masks, self.more_anchors, self.multimask = true_masks, more_anchors, multimask

    def losses(self, model: Any, batch: ClipBatch) -> dict[str, Tensor]:
        """Losses, averaged over pairs of expression and frame, and the statistic ``iou``."""
        segmenter, num_frames = model.segmenter, batch.num_frames
        features = model.image_features([frame for clip in batch.frames for frame in clip])
        device = features.embedding.device
        truth = square_truth(batch.masks, segmenter.image_size).to(device)
        seen = (truth[:, 0] > 0.5).flatten(1).any(1)
        if not bool(seen.any()):
            return {"loss_idle": 0.0 * features.embedding.sum()}
        truth, clips = truth[seen], batch.clip_index.to(device)[seen]
        frames = frames_of_rows(features, clips, num_frames)
        rng = seeded(batch.sample_ids)
        later = min(int(rng.integers(0, self.more_anchors + 1)), num_frames - 1)
        anchors = {0, *(1 + rng.choice(num_frames - 1, later, replace=False)).tolist()} if later else {0}
        tracker = Tracker(segmenter, segmenter.new_memory(self.memory), multimask=self.multimask)
        shown = rng.random() < self.true_masks
        predictions: list[MaskPrediction] = []
        for t, image in enumerate(frames):
            prompt = None if t not in anchors else box_tokens(segmenter.model, truth[:, t] > 0.5)
            prediction = tracker.decode(image, prompt, frame_index=t)
            predictions.append(prediction)
            if t == 0 and shown:
                prediction = segmenter.from_mask(image, truth[:, 0] > 0.5)
            tracker.commit(image, prediction, is_anchor=t in anchors, frame_index=t)
        pair = pairs(predictions, truth)
        return {**self.loss(**pair), "iou": mean_iou(pair)}


def box_tokens(model: Any, masks: Tensor) -> Tensor:
    """(N, 3, C) prompt tokens of the boxes around (N, S, S) bool masks, with SAM2's null point.

    An empty mask gets a point on what no mask covers.
    """
    ground = ~masks.any(0)
    if not bool(ground.any()):
        ground = torch.ones_like(ground)
    place = torch.multinomial(ground.flatten().float(), 1)
    free = torch.stack((place % ground.shape[1], place // ground.shape[1]), -1).float()
    points = masks.new_zeros((len(masks), 3, 2), dtype=torch.float32)
    labels = masks.new_full((len(masks), 3), NO_POINT, dtype=torch.int64)
    for row, mask in enumerate(masks):
        y, x = mask.nonzero(as_tuple=True)
        if len(x):
            points[row, 0], points[row, 1] = (
                points.new_tensor([x.min(), y.min()]),
                points.new_tensor([x.max(), y.max()]),
            )
            labels[row, 0], labels[row, 1] = FIRST_CORNER, FIRST_CORNER + 1
        else:
            points[row, 0], labels[row, 0] = free[0], FOREGROUND
    return embed_points(model, points, labels)
