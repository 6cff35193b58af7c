"""How much each frame looks like the expression, by CLIP.

Source: Radford et al., CLIP (2021): cosine similarity of the projected image and text embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModel, AutoProcessor

from refstream.errors import UserError


class ClipScorer:
    """Any CLIP of transformers with its processor; both are given, nothing is downloaded.

    Args:
        model: ``CLIPModel`` or a relative whose output has ``image_embeds`` and ``text_embeds``.
        processor: Called as ``processor(text=[...], images=[...], return_tensors="pt", padding=True,
            truncation=True)``.
        batch_size: Frames per forward pass.
    """

    def __init__(self, model: nn.Module, processor: Callable[..., Any], batch_size: int = 16) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, got {batch_size}")
        self.model, self.processor, self.batch_size = model, processor, batch_size

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> ClipScorer:
        """Load the folder of a saved model.

        Raises:
            UserError: If there is no such folder.
        """
        if not Path(folder).is_dir():
            raise UserError(f"no folder of a CLIP model at {folder}: save one there; nothing is downloaded")
        model = AutoModel.from_pretrained(folder, local_files_only=True)
        return cls(model.eval(), AutoProcessor.from_pretrained(folder, local_files_only=True), **options)

    @torch.no_grad()
    def __call__(self, images: Sequence[np.ndarray], expression: str) -> list[float]:
        """Cosine similarity of each image, (H, W, 3) uint8 RGB, with the expression, in [-1, 1]."""
        device = next(self.model.parameters()).device
        scores: list[float] = []
        for start in range(0, len(images), self.batch_size):
            inputs = self.processor(
                text=[expression],
                images=list(images[start : start + self.batch_size]),
                return_tensors="pt",
                padding=True,
                truncation=True,
            )
            output = self.model(**{name: value.to(device) for name, value in inputs.items()})
            pair = torch.nn.functional.cosine_similarity(output.image_embeds, output.text_embeds)
            scores += pair.float().tolist()
        return scores
