"""From the [SEG] hidden state to a SAM2 prompt (LISA, CVPR 2024; Sa2VA's ``text_hidden_fcs``)."""

from __future__ import annotations

from torch import Tensor, nn

from refstream.registry import HEADS
from refstream.structures import SegPrompt


@HEADS.register_module()
class SegTokenHead(nn.Module):
    """Two linear layers with a ReLU between: (N, D) hidden states -> N embedding prompts of one token.

    Args:
        hidden_size: D of the MLLM.
        prompt_dim: C of the segmenter's prompt encoder.
    """

    def __init__(self, hidden_size: int, prompt_dim: int) -> None:
        super().__init__()
        first, last = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, prompt_dim)
        self.layers = nn.Sequential(first, nn.ReLU(inplace=True), last)

    def forward(self, states: Tensor) -> SegPrompt:
        """(N, D) -> prompt with embedding (N, 1, C)."""
        return SegPrompt(embedding=self.layers(states.to(next(self.parameters()).dtype))[:, None])
