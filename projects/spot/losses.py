"""The loss of a segment: quality and text of every frame, and the bridge over them.

Source: SPOT (CVPR 2026):

    L = sum over the T_s frames of (L_box + L_class + lambda_text L_text) + lambda_bb L_bridge

with lambda_bb = 0.1, lambda_text = 0.5, T_s = 8. L_text is the mean cross-entropy over the tokens of the
frame's answers. A frame with several objects counts as one: its terms are means over them (assumed).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from refstream.registry import LOSSES

from .bridge import Bridge, BridgeFrame, frame_term, joint_term
from .geometry import full_precision
from .quality import BETA, REDUCTIONS, box_loss, point_loss
from .signals import FrameSignals


@dataclass(frozen=True, eq=False)
class FrameTruth:
    """What is true of one frame: N objects, K points each.

    Attributes:
        boxes: (N, 4) smallest rectangles of the true masks; N = 0 where nothing is to be seen.
        labels: (N, K) 1 where a point of the training grid lies on the object.
        bridge: Per object what the bridge asks here, None where it asks nothing.
        tracks: Number of each object, the same in all frames of a segment; empty: 0, 1, ...
    """

    boxes: Tensor
    labels: Tensor
    bridge: tuple[BridgeFrame | None, ...] = ()
    tracks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.boxes)
        if len(self.labels) != size or len(self.bridge) not in (0, size) or len(self.tracks) not in (0, size):
            raise ValueError(
                f"{size} boxes need as many rows of labels, bridges and tracks, got {len(self.labels)}, "
                f"{len(self.bridge)} and {len(self.tracks)}"
            )


@LOSSES.register_module()
class SPOTLoss(nn.Module):
    """See the module.

    Args:
        bridge_weight: lambda_bb.
        text_weight: lambda_text.
        box_weight: Paper 1.
        class_weight: Paper 1; at the start the class loss of 25 points is some 200 times the box loss.
        beta: Of the box's SmoothL1, see ``quality``.
        class_reduction: Over the points of an object: "sum" (paper) or "mean".
        frame_reduction: "sum" (paper), or "mean": all of a segment's terms divided by T_s.
        mask_point_answers: Leave the judgements of points, which the class loss trains, out of the text's
            mean.
        bridge: Keys of ``Bridge``.

    Attributes:
        bridge: The ``Bridge``; the truth's ``BridgeFrame`` come from its ``plan``.

    Raises:
        ValueError: For negative weights, unknown names, or keys that the bridge does not take.
    """

    def __init__(
        self,
        bridge_weight: float = 0.1,
        text_weight: float = 0.5,
        box_weight: float = 1.0,
        class_weight: float = 1.0,
        beta: float = BETA,
        class_reduction: str = "sum",
        frame_reduction: str = "sum",
        mask_point_answers: bool = False,
        bridge: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        weights = (bridge_weight, text_weight, box_weight, class_weight)
        if min(*weights, beta) < 0:
            raise ValueError(f"weights and beta must not be negative, got {weights} and {beta}")
        if class_reduction not in REDUCTIONS or frame_reduction not in REDUCTIONS:
            raise ValueError(
                f"reductions must be one of {REDUCTIONS}, got {class_reduction!r} and {frame_reduction!r}"
            )
        unknown = sorted(set(bridge or {}) - set(Bridge.__dataclass_fields__))
        if unknown:
            raise ValueError(f"bridge has no keys {unknown}, it takes {sorted(Bridge.__dataclass_fields__)}")
        self.bridge_weight, self.text_weight, self.box_weight, self.class_weight = weights
        self.beta, self.class_reduction, self.frame_reduction = beta, class_reduction, frame_reduction
        self.mask_point_answers = mask_point_answers
        self.bridge = Bridge(**(bridge or {}))

    def forward(
        self,
        frames: Sequence[FrameSignals],
        truths: Sequence[FrameTruth],
        *,
        num_frames: int,
        num_segments: float = 1.0,
    ) -> dict[str, Tensor]:
        """Losses of some frames of one segment.

        In the paper's form of the bridge frames do not depend on each other: the sum over calls with one
        frame each is the loss of the segment, and so are its gradients. With ``bridge.couples_frames`` one
        call takes the whole segment.

        Args:
            frames: What was said, at least one frame, in the order of time.
            truths: Of the same frames and objects.
            num_frames: T_s of the whole segment.
            num_segments: Segments of the optimizer step, by which all is divided.

        Returns:
            ``loss_box``, ``loss_class``, ``loss_text``, ``loss_bridge``: weighted float32 scalars with a
            graph.

        Raises:
            ValueError: If frames and truths do not fit, or a segment is incomplete where it must not be.
        """
        if not frames or len(frames) != len(truths) or not len(frames) <= num_frames or num_segments <= 0:
            raise ValueError(
                f"need 1 to {num_frames} frames with as many truths and a positive number of segments, got "
                f"{len(frames)}, {len(truths)} and {num_segments}"
            )
        if self.bridge.couples_frames and len(frames) != num_frames:
            raise ValueError(
                f"the joint bridge couples neighbours: it needs all {num_frames} frames at once, got "
                f"{len(frames)}"
            )
        for frame, truth in zip(frames, truths, strict=True):
            self._check(frame, truth)
        terms = {
            "loss_box": self.box_weight * self._over(frames, truths, self._box),
            "loss_class": self.class_weight * self._over(frames, truths, self._class),
            "loss_text": self.text_weight * torch.stack([self._text(frame) for frame in frames]).sum(),
            "loss_bridge": self.bridge_weight * self._bridge(frames, truths),
        }
        divisor = num_segments * (num_frames if self.frame_reduction == "mean" else 1)
        return {name: term / divisor for name, term in terms.items()}

    def _over(self, frames: Sequence[FrameSignals], truths: Sequence[FrameTruth], term: Any) -> Tensor:
        """Sum over frames of a term's mean over objects."""
        sums = [term(f, t).sum() / max(len(t.boxes), 1) for f, t in zip(frames, truths, strict=True)]
        return torch.stack(sums).sum()

    def _box(self, frame: FrameSignals, truth: FrameTruth) -> Tensor:
        return box_loss(frame.boxes, truth.boxes, self.beta)

    def _class(self, frame: FrameSignals, truth: FrameTruth) -> Tensor:
        return point_loss(frame.z, truth.labels, self.class_reduction)

    def _text(self, frame: FrameSignals) -> Tensor:
        kept = frame.token_losses[~frame.is_point] if self.mask_point_answers else frame.token_losses
        return full_precision(kept).sum() / max(len(kept), 1)

    def _bridge(self, frames: Sequence[FrameSignals], truths: Sequence[FrameTruth]) -> Tensor:
        """Sum over frames of the mean over their objects; joint: mean over the objects of the segment."""
        total = torch.stack([full_precision(frame.points).sum() * 0.0 for frame in frames]).sum()
        held: dict[int, list[tuple[Tensor, BridgeFrame]]] = {}
        for frame, truth in zip(frames, truths, strict=True):
            for n, asked in enumerate(truth.bridge):
                if asked is None:
                    continue
                places = self.bridge.chosen(frame.points[n], frame.boxes[n], truth.labels[n])
                if self.bridge.form == "joint":
                    held.setdefault(truth.tracks[n] if truth.tracks else n, []).append((places, asked))
                else:
                    total = total + frame_term(places, asked) / len(truth.boxes)
        for track in held.values():
            places_of, asked_of = zip(*track, strict=True)
            total = total + joint_term(places_of, asked_of, self.bridge.epsilon) / len(held)
        return total

    def _check(self, frame: FrameSignals, truth: FrameTruth) -> None:
        size = len(truth.boxes)
        if len(frame.boxes) != size or len(frame.points) != size or len(frame.z) != size:
            raise ValueError(
                f"the truth has {size} objects, the answer {len(frame.boxes)} boxes, {len(frame.points)} "
                f"grids and {len(frame.z)} rows of judgements"
            )
        if frame.is_point.shape != frame.token_losses.shape:
            raise ValueError(
                f"is_point {tuple(frame.is_point.shape)} must fit the token losses, "
                f"{tuple(frame.token_losses.shape)}"
            )
