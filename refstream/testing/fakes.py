"""Fakes with the real seams: tokens, hidden states and prompts flow as in a trained model, colours decide.

The fake MLLM reads the colour word of the expression and puts that colour into the [SEG] state; the fake
segmenter takes the prompt as a colour and marks the pixels near it. Nothing is random, nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refstream.models.composite import SegComposite
from refstream.models.mllm.chat import ChatTokens, PromptBuilder
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.protocols import MLLMOutput
from refstream.structures import Frame, ImageFeatures, MaskPrediction, SegPrompt

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220), "yellow": (220, 220, 40)}


def moving_square_video(
    num_frames: int = 8, size: int = 64, colours: Sequence[str] = ("red", "blue"), side: int = 16
) -> tuple[list[Frame], np.ndarray]:
    """Squares that walk to the right on grey, one row per colour.

    Returns:
        The frames, and (len(colours), T, size, size) bool masks.
    """
    masks = np.zeros((len(colours), num_frames, size, size), dtype=bool)
    frames = []
    for t in range(num_frames):
        image = np.full((size, size, 3), 128, dtype=np.uint8)
        for i, colour in enumerate(colours):
            top = i * (size // len(colours)) + 4
            left = (4 + 2 * t + 8 * i) % (size - side)
            masks[i, t, top : top + side, left : left + side] = True
            image[masks[i, t]] = COLOURS[colour]
        frames.append(Frame(t, t / 10, image))
    return frames, masks


class FakeMLLM(nn.Module):
    """Its [SEG] state is the colour named in the expression, plus a tenth of the context states.

    Attributes:
        num_encodes: Images encoded so far.
        num_looks: Rows run through ``forward_chat`` so far.
    """

    hidden_size = 8
    num_image_tokens = 4

    def __init__(self) -> None:
        super().__init__()
        words = [*COLOURS, *(f"the {c} square" for c in COLOURS)]
        self.tokenizer = build_tiny_tokenizer(words)
        self.prompts = PromptBuilder(self.tokenizer, self.num_image_tokens)
        self.num_encodes = self.num_looks = 0
        self.scale = nn.Parameter(torch.ones(()))

    @property
    def device(self) -> torch.device:
        """Where the fake lives."""
        return self.scale.device

    def vision_modules(self) -> list[nn.Module]:
        """No module sees."""
        return []

    def preprocess(self, images: Sequence[np.ndarray], *, max_tiles: int = 1) -> Tensor:
        """Mean colours: (tiles, 3, 1, 1)."""
        return torch.stack([torch.from_numpy(i.mean((0, 1)) / 255.0).float()[:, None, None] for i in images])

    def encode_images(self, pixels: Tensor) -> Tensor:
        """(tiles, 4, 8) vision tokens that repeat the mean colour."""
        self.num_encodes += len(pixels)
        tokens = F.pad(pixels.flatten(1), (0, self.hidden_size - 3))
        return tokens[:, None].expand(-1, self.num_image_tokens, -1).to(self.device)

    def forward_chat(
        self,
        chat: ChatTokens,
        image_tokens: Tensor | None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        *,
        with_logits: bool = False,
        with_loss: bool | None = None,
    ) -> MLLMOutput:
        """Hidden states that hold the colour everywhere."""
        self.num_looks += chat.batch_size
        colours = torch.zeros(chat.batch_size, self.hidden_size, device=self.device)
        for i, ids in enumerate(chat.input_ids):
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            named = [c for c in COLOURS if c in text]
            if named:
                colours[i, :3] = torch.tensor(COLOURS[named[0]], device=self.device) / 255.0
        if context is not None and context_mask is not None:
            seen = (context * context_mask[..., None]).sum(1)
            colours[:, 3:6] = colours[:, 3:6] + 0.1 * seen[:, :3]
        hidden = (colours * self.scale)[:, None].expand(-1, chat.input_ids.shape[1], -1)
        wanted = self.training if with_loss is None else with_loss
        row_loss = hidden.flatten(1).sum(1) * 0 if wanted else None
        return MLLMOutput(hidden, loss=None if row_loss is None else row_loss.sum(), row_loss=row_loss)


class FakeSegmenter(nn.Module):
    """Marks the pixels whose colour is near the prompt's first three numbers.

    Attributes:
        num_encodes: Images encoded so far.
        num_decodes: Prompts decoded so far.
    """

    image_size = 64
    prompt_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.num_encodes = self.num_decodes = 0

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """(B, 3, 64, 64) in [0, 1]."""
        pixels = [
            torch.from_numpy(np.ascontiguousarray(i)).permute(2, 0, 1)[None].float() / 255.0 for i in images
        ]
        return torch.cat(
            [F.interpolate(p, (self.image_size, self.image_size), mode="nearest") for p in pixels]
        )

    def encode(self, pixels: Tensor) -> ImageFeatures:
        """The pixels themselves."""
        self.num_encodes += len(pixels)
        return ImageFeatures(pixels, (pixels, pixels), torch.zeros_like(pixels[:1]))

    def decode(
        self, features: ImageFeatures, prompt: SegPrompt, *, memory: Any = None, multimask: bool = True
    ) -> MaskPrediction:
        """(N, 64, 64) logits: positive within a small distance of the colour."""
        if prompt.embedding is None:
            raise ValueError("the fake segmenter takes embedding prompts only")
        n = prompt.num_prompts
        self.num_decodes += n
        distance = (features.embedding - prompt.embedding[:, 0, :3, None, None]).abs().amax(1)
        logits = (0.08 - distance) * 50
        visible = (logits > 0).flatten(1).any(1)
        pred_iou = torch.where(visible, 0.95, 0.1)
        score = torch.where(visible, 5.0, -5.0)
        return MaskPrediction(
            logits, pred_iou, score, logits[:, None], pred_iou[:, None], prompt.embedding[:, 0]
        )


class FakeModel(SegComposite, nn.Module):
    """Composite of the fakes; ``pipeline`` is the config that a saved model would name."""

    def __init__(self, pipeline: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.mllm, self.segmenter, self.head = FakeMLLM(), FakeSegmenter(), FakeHead()
        self.config = SimpleNamespace(pipeline=pipeline or {})


class FakeHead(nn.Module):
    """The state is the prompt."""

    def forward(self, states: Tensor) -> SegPrompt:
        """(N, D) -> embedding (N, 1, D)."""
        return SegPrompt(embedding=states[:, None])
