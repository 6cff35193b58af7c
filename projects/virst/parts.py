"""What whole clips and streams share: the parts of the model, and how they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refstream.models.masks import upsample_mask
from refstream.models.segmenter.memory import Memory
from refstream.streaming.features import StageTimer
from refstream.structures import Frame, ImageFeatures, MaskPrediction

from .anchors import AnchorPolicy
from .clip import ClipReader
from .fusion import FusionTokens

VISION_BATCH = 16  # images that go through the MLLM's vision tower at a time


@dataclass(frozen=True)
class Decoded:
    """What one query gets on one frame, on the CPU.

    Attributes:
        mask: (H, W) bool at the frame's size.
        pred_iou: The decoder's estimate.
        object_score: Visibility logit.
        is_anchor: Whether the frame was prompted.
    """

    mask: np.ndarray
    pred_iou: float
    object_score: float
    is_anchor: bool


@dataclass(frozen=True)
class Parts:
    """The model, taken apart.

    Attributes:
        model: Composite with ``mllm``, ``segmenter`` and a ``SpatioTemporalFusion`` as ``head``.
        reader: Asks the MLLM.
        policy: Sets anchors.
        memory: Config of the tracker's memory.
        multimask: See ``Tracker``.
        stage: Stage timer.
    """

    model: Any
    reader: ClipReader
    policy: AnchorPolicy
    memory: Mapping[str, Any]
    multimask: bool
    stage: StageTimer

    def new_memory(self, **keys: Any) -> Memory:
        """An empty memory, for one query or for several that are decoded together."""
        return self.model.segmenter.new_memory({**self.memory, **keys})

    def encode(self, image: np.ndarray) -> ImageFeatures:
        """The segmenter's features of one image (H, W, 3) uint8: one pass of its encoder."""
        with self.stage("segmenter_encode"):
            return self.model.segmenter.encode(self.model.segmenter.preprocess([image]))

    def condense(self, features: ImageFeatures) -> FusionTokens:
        """What both fusions need of one frame."""
        with self.stage("fusion"):
            return self.model.head.condense(features.embedding[None])

    def look(self, images: Sequence[np.ndarray]) -> Tensor:
        """(T, n, H) what the MLLM sees of these images."""
        with self.stage("vision_encode"):
            parts = [images[i : i + VISION_BATCH] for i in range(0, len(images), VISION_BATCH)]
            return torch.cat([self.reader.encode(part) for part in parts])

    def prompts(
        self, tokens: FusionTokens, vision: Tensor | Sequence[Tensor], expressions: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """Both fusions with the MLLM between them, once for Q expressions about one window of T frames.

        Args:
            tokens: Of the T frames, batch size 1.
            vision: (T', n, H) of the frames that the MLLM sees.
            expressions: Q of them.

        Returns:
            (Q, T, N, C) prompts and (Q, T) float32 frame scores.
        """
        with self.stage("fusion"):
            embeds = self.model.head.initial(tokens)
        with self.stage("mllm"):
            reading = self.reader.read(vision, embeds, expressions, with_loss=False)
        with self.stage("fusion"):
            prompts, scores = self.model.head.second(reading.hidden, tokens)
        return prompts, scores

    def deliver(self, prediction: MaskPrediction, frame: Frame, *, is_anchor: bool) -> list[Decoded]:
        """Masks of Q queries at the frame's own size."""
        with self.stage("upsample"):
            masks = [upsample_mask(logits[None], frame.size) for logits in prediction.mask_logits]
        ious, scores = prediction.pred_iou.tolist(), prediction.object_score.tolist()
        return [Decoded(*one, is_anchor) for one in zip(masks, ious, scores, strict=True)]
