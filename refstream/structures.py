"""The typed things that flow through RefStream.

Letters in shapes: B batch, T frames, N prompts (one per query), K points, M mask candidates,
C prompt width, D hidden size of the MLLM, H/W pixels of the source, h/w pixels of the low-resolution
masks, S side of the segmenter's square input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """One picture of a stream.

    Attributes:
        index: Position in the stream, from 0, without gaps.
        time_s: Presentation time in seconds, taken from the stream, never decreasing.
        image: (H, W, 3) uint8 RGB.
    """

    index: int
    time_s: float
    image: np.ndarray

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(
                f"a frame's image must be (H, W, 3) uint8 RGB, got {self.image.shape} {self.image.dtype}"
            )
        if 0 in self.image.shape:
            raise ValueError(f"a frame's image must not be empty, got shape {self.image.shape}")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return int(self.image.shape[0]), int(self.image.shape[1])


@dataclass(frozen=True)
class Query:
    """What a person asks of a stream: a referring expression, or a question in words.

    Attributes:
        id: Unique within a session.
        expression: The words, as given by the user.
        kind: Who is asked, where a session runs several pipelines side by side; empty: the first of them.
        time_s: When it is asked, in seconds of the stream.
    """

    id: str
    expression: str
    kind: str = ""
    time_s: float = 0.0


@dataclass(frozen=True)
class SegPrompt:
    """N prompts for the segmenter; at least one kind must be given.

    Attributes:
        embedding: (N, K, C) or None. Vectors in the prompt encoder's space, appended to the sparse tokens.
        points_xy: (N, K, 2) or None. Pixels of the segmenter's square input, x right, y down, in [0, S].
        point_labels: (N, K) int64 or None. 1 foreground, 0 background, -1 padding.
        box_xyxy: (N, 4) or None. Pixels of the square input.
        mask_logits: (N, 1, h, w) or None. Dense prompt at the prompt encoder's mask size.
    """

    embedding: Tensor | None = None
    points_xy: Tensor | None = None
    point_labels: Tensor | None = None
    box_xyxy: Tensor | None = None
    mask_logits: Tensor | None = None

    def __post_init__(self) -> None:
        given = [
            t for t in (self.embedding, self.points_xy, self.box_xyxy, self.mask_logits) if t is not None
        ]
        if not given:
            raise ValueError("a SegPrompt needs an embedding, points, a box or a mask; got none")
        if len({t.shape[0] for t in given}) != 1:
            raise ValueError(
                f"all parts of a SegPrompt must have one batch size, got {[t.shape for t in given]}"
            )
        if (self.points_xy is None) != (self.point_labels is None):
            raise ValueError("points_xy and point_labels must be given together")

    @property
    def num_prompts(self) -> int:
        """N."""
        for t in (self.embedding, self.points_xy, self.box_xyxy, self.mask_logits):
            if t is not None:
                return int(t.shape[0])
        raise AssertionError("unreachable: checked in __post_init__")


@dataclass(frozen=True)
class ImageFeatures:
    """What the segmenter keeps of B encoded images; shared by all queries of a frame.

    Attributes:
        embedding: (B, C, h16, w16) stride-16 map, without any memory or no-memory embedding.
        high_res: (B, C/8, 4*h16, 4*w16) and (B, C/4, 2*h16, 2*w16), already projected for the mask decoder;
            without channels where the decoder takes none.
        position: (1 or B, C, h16, w16) position encoding of ``embedding``.
        extent: (B, 2) int64, rows and columns of the square input that hold the frame, from the upper left,
            where the segmenter pads; None: the frame fills the square.
    """

    embedding: Tensor
    high_res: tuple[Tensor, Tensor]
    position: Tensor
    extent: Tensor | None = None

    @property
    def batch_size(self) -> int:
        """B."""
        return int(self.embedding.shape[0])

    def __getitem__(self, index: int) -> ImageFeatures:
        """The features of one image, with batch size 1."""
        return self._rows(slice(index, index + 1))

    def take(self, index: Tensor) -> ImageFeatures:
        """Features of batch N for (N,) int64 image numbers; images may repeat."""
        return self._rows(index)

    def _rows(self, rows: slice | Tensor) -> ImageFeatures:
        return ImageFeatures(
            embedding=self.embedding[rows],
            high_res=(self.high_res[0][rows], self.high_res[1][rows]),
            position=self.position if self.position.shape[0] == 1 else self.position[rows],
            extent=None if self.extent is None else self.extent[rows],
        )


@dataclass(frozen=True)
class MaskPrediction:
    """N chosen masks, with the reasons.

    Attributes:
        mask_logits: (N, h, w) float32, low resolution; > 0 is foreground.
        pred_iou: (N,) float32 in [0, 1], the decoder's own estimate for the chosen mask.
        object_score: (N,) float32 logit; > 0 means that the object is visible.
        candidate_logits: (N, M, h, w) all masks before the choice.
        candidate_iou: (N, M).
        object_pointer: (N, C) the token that stands for the object in the memory; (N, 0) of a segmenter
            without a memory.
    """

    mask_logits: Tensor
    pred_iou: Tensor
    object_score: Tensor
    candidate_logits: Tensor
    candidate_iou: Tensor
    object_pointer: Tensor

    def __getitem__(self, index: int) -> MaskPrediction:
        """The prediction of one prompt, with batch size 1."""
        s = slice(index, index + 1)
        return MaskPrediction(*(getattr(self, name)[s] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class StreamEvent:
    """What comes out for one query at one frame.

    Attributes:
        query_id: Which query this answers.
        frame_index: Which frame it speaks of.
        time_s: That frame's time.
        mask: (H, W) bool at the frame's own size, or None for a text event.
        text: What the model said, or None.
        pred_iou: P_i of the emitted mask, in [0, 1].
        consistency: P_c, IoU with the previous mask, in [0, 1]; None on the first frame.
        object_score: Visibility logit of the emitted mask.
        invoked_mllm: Whether the MLLM looked at this frame.
        reason: Why it did or did not, one word: see ``refstream.streaming.gates``.
        latency_ms: From the arrival of the frame to this event.
        extra: Numbers that only some methods have; JSON-serialisable.
    """

    query_id: str
    frame_index: int
    time_s: float
    mask: np.ndarray | None = None
    text: str | None = None
    pred_iou: float | None = None
    consistency: float | None = None
    object_score: float | None = None
    invoked_mllm: bool = False
    reason: str = ""
    latency_ms: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)
