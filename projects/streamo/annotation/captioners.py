"""Who looks at the frames: anything that turns frames and a request into words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from refstream.errors import UserError

from .prompts import Prompt
from .rule_captioner import RuleCaptioner


class Captioner(Protocol):
    """Looks at some frames and replies to a request.

    Attributes:
        name: Tells apart two captioners that may reply differently; results are kept by it.
    """

    name: str

    def caption(self, frames: np.ndarray, times: np.ndarray, prompt: Prompt) -> str:
        """Reply to a request.

        Args:
            frames: (T, H, W, 3) uint8 RGB, T >= 1.
            times: (T,) float64 seconds, increasing.
            prompt: What is asked.

        Returns:
            Words; ``prompts.NOTHING`` if there is nothing to tell.
        """
        ...


CAPTIONERS: dict[str, Callable[[], Captioner]] = {"rules": RuleCaptioner}
"""Captioners with a name of their own; any other name is the folder of a model."""


def captioner_of(
    name: str, device: str = "cpu", max_frames: int = 16, max_new_tokens: int = 128
) -> Captioner:
    """The captioner of this name: one of ``CAPTIONERS``, or the folder of an image-text-to-text model.

    Args:
        name: "rules" or a folder.
        device: Of a model.
        max_frames: Most frames that a model sees at once.
        max_new_tokens: Longest reply of a model.

    Raises:
        UserError: If there is neither.
    """
    if name in CAPTIONERS:
        return CAPTIONERS[name]()
    if not Path(name).is_dir():
        raise UserError(
            f"no captioner {name!r}: expected one of {', '.join(sorted(CAPTIONERS))}, or the folder of a "
            "transformers image-text-to-text model"
        )
    from .vlm_captioner import TransformersCaptioner

    return TransformersCaptioner(name, device=device, max_frames=max_frames, max_new_tokens=max_new_tokens)
