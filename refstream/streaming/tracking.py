"""Masks of prompted objects from frame to frame, with or without the segmenter's memory.

Points and boxes lie where the object was when they were made: without a memory they serve again as they are,
with one the segmenter follows the object by itself until it is prompted anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from refstream.errors import UserError
from refstream.structures import ImageFeatures, MaskPrediction, SegPrompt

MEMORIES = ("off", "on")
CONDITIONING = ("first", "always")

MemoryKey = str | Mapping[str, Any]


def memory_policy(key: MemoryKey) -> dict[str, Any] | None:
    """Config of the memory that ``memory=`` of a pipeline means: "off" none, "on" SAM2's own, or a config.

    Raises:
        UserError: For another word.
    """
    if isinstance(key, Mapping):
        return dict(key)
    if key not in MEMORIES:
        raise UserError(
            f"memory must be one of {MEMORIES} or a config such as dict(type='sam2'), got {key!r}"
        )
    return dict(type="sam2") if key == "on" else None


class ObjectTrack:
    """N objects of one query.

    Args:
        segmenter: With ``new_memory`` and ``remember`` where there is a memory.
        memory: Config of the memory, see ``memory_policy``; None: every frame stands alone.
        conditioning: "first": later prompts are read together with the memory, as SAM2 corrects a track.
            "always": every prompt starts anew and the memory carries it only to the next one.
        multimask: Choose the best of three masks.

    Attributes:
        prompt: The last one, None before the first or after ``clear``.
        remembered: The memory, None where there is none.

    Raises:
        UserError: For another ``conditioning``.
    """

    def __init__(
        self,
        segmenter: Any,
        memory: Mapping[str, Any] | None = None,
        *,
        conditioning: str = "first",
        multimask: bool = True,
    ) -> None:
        if conditioning not in CONDITIONING:
            raise UserError(f"conditioning must be one of {CONDITIONING}, got {conditioning!r}")
        self._segmenter = segmenter
        self._policy = None if memory is None else dict(memory)
        self._anew = conditioning == "always"
        self._multimask = multimask
        self.prompt: SegPrompt | None = None
        self.remembered: Any = None
        self.clear()

    def clear(self) -> None:
        """Forget the objects."""
        self.prompt = None
        self.remembered = None if self._policy is None else self._segmenter.new_memory(self._policy)

    def follow(self, image: ImageFeatures, index: int) -> MaskPrediction | None:
        """The objects on a frame without a new prompt; nothing is kept. None if there is no object yet."""
        if self.prompt is None:
            return None
        if self.remembered is None:
            return self._decode(image, self.prompt)
        return self._decode(image, None, memory=self.remembered, frame_index=index)

    def take(self, image: ImageFeatures, prompt: SegPrompt, index: int) -> MaskPrediction:
        """The objects of a new prompt on a frame, which is remembered as prompted.

        Another number of objects than before begins a new track.
        """
        if self.prompt is not None and self.prompt.num_prompts != prompt.num_prompts:
            self.clear()
        first = self.prompt is None or self._anew
        self.prompt = prompt
        if self.remembered is None:
            return self._decode(image, prompt)
        prediction = self._decode(
            image, prompt, memory=self.remembered, frame_index=index, is_conditioning=first
        )
        self._remember(image, prediction, index, first)
        return prediction

    def keep(self, image: ImageFeatures, followed: MaskPrediction, index: int) -> None:
        """Remember what ``follow`` gave, as this frame's answer."""
        if self.remembered is not None:
            self._remember(image, followed, index, False)

    def _decode(self, image: ImageFeatures, prompt: SegPrompt | None, **keys: Any) -> MaskPrediction:
        found: MaskPrediction = self._segmenter.decode(image, prompt, multimask=self._multimask, **keys)
        return found

    def _remember(self, image: ImageFeatures, found: MaskPrediction, index: int, prompted: bool) -> None:
        self._segmenter.remember(image, found, self.remembered, frame_index=index, is_conditioning=prompted)


def union(prediction: MaskPrediction) -> tuple[Tensor, float, float]:
    """N objects as one: (1, h, w) logits of their union, mean predicted IoU, highest object score."""
    logits = prediction.mask_logits.amax(0, keepdim=True)
    return logits, float(prediction.pred_iou.mean()), float(prediction.object_score.max())


def joined(prompts: Sequence[SegPrompt]) -> SegPrompt:
    """Prompts of one row each as N rows; where some have fewer points, they are filled up with label -1
    (none).

    Raises:
        ValueError: If there is none, or only some of them have a box, an embedding or a mask.
    """
    if not prompts:
        raise ValueError("at least one prompt is needed, got none")
    most = max(0 if one.points_xy is None else one.points_xy.shape[1] for one in prompts)
    values: dict[str, Tensor | None] = {}
    for name in SegPrompt.__dataclass_fields__:
        rows = [getattr(one, name) for one in prompts]
        if most and name == "points_xy":
            rows = [
                torch.zeros(1, most, 2) if r is None else F.pad(r, (0, 0, 0, most - r.shape[1])) for r in rows
            ]
        if most and name == "point_labels":
            none = torch.full((1, most), -1, dtype=torch.int64)
            rows = [none if r is None else F.pad(r, (0, most - r.shape[1]), value=-1) for r in rows]
        given = [row for row in rows if row is not None]
        if given and len(given) != len(rows):
            raise ValueError(f"some of the prompts have {name}, and others none")
        values[name] = torch.cat(given) if given else None
    return SegPrompt(**values)
