"""Spatio-Temporal Fusion (STF): what the segmenter sees meets the [ST] tokens before and after the MLLM.

Source: VIRST (CVPR 2026), section on spatio-temporal fusion; the details are those of the released code, and
where that differs from the paper there is a key. In one clip:

    fusion = SpatioTemporalFusion(hidden_size=H, prompt_dim=C)         # registered in HEADS
    tokens = fusion.condense(features)                                 # optional: once, 64 tokens a frame
    embeds = fusion.initial(features | tokens, mask)                   # (B, N, H) -> the MLLM's input
    ... scatter_states, the MLLM with the forced answer, read_back ... # (B, N, H) states, see st_tokens.py
    prompts, frame_scores = fusion.second(hidden, features | tokens, mask)   # (B, T, N, C) and (B, T)

Shapes and dtypes:

    initial(features (B, T, C_in, h16, w16) | FusionTokens, mask (B, T) bool | None) -> (B, N, H)
    second(hidden (B, N, H), features, mask, token_mask (B, N) bool | None) -> ((B, T, N, C), (B, T) float32)
    forward = second

``mask`` is False on padded frames: they are hidden from everything, their prompts and scores are 0. Features
of batch 1 serve any number of expressions: ``initial`` then gives batch 1, ``second`` that of ``hidden``.
Features and states are cast to the weights' dtype.

Gradients: ``initial`` reaches its weights, gate and [ST] embeddings, never the features; ``second`` reaches
states and weights, and the features if they want a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from refstream.errors import UserError
from refstream.registry import HEADS

from .downsampler import strides_for
from .fusion_steps import InitialFusion, RepeatedPrompt, SecondFusion
from .st_tokens import STTokens

# name -> (is there an initial fusion?, what stands in the second fusion's place)
FUSIONS = {
    "two_step": (True, "decoder"),
    "initial_only": (True, "linear"),
    "second_only": (False, "decoder"),
    "mlp": (True, "mlp"),
    "none": (False, "linear"),
}


@dataclass(frozen=True)
class FusionTokens:
    """Down-sampled frames: all that both fusions need of a clip, S = rows * columns tokens a frame.

    Attributes:
        batch_size: B.
        num_frames: T.
        initial: (B, T, S, C_1) for the initial fusion, None if there is none.
        second: (B, T, S, C) for the second fusion, None if there is none.
    """

    batch_size: int
    num_frames: int
    initial: Tensor | None
    second: Tensor | None

    @classmethod
    def concatenate(cls, parts: Sequence[FusionTokens]) -> FusionTokens:
        """Put clips of one batch behind each other in time."""

        def join(name: str) -> Tensor | None:
            tensors = [getattr(part, name) for part in parts]
            return None if tensors[0] is None else torch.cat(tensors, dim=1)

        num_frames = sum(part.num_frames for part in parts)
        return cls(parts[0].batch_size, num_frames, join("initial"), join("second"))


@HEADS.register_module()
class SpatioTemporalFusion(nn.Module):
    """[ST] embeddings, initial fusion and second fusion; see the module for the order of calls.

    Args:
        hidden_size: H of the language model.
        prompt_dim: C of the segmenter's prompts.
        num_tokens: N (paper and release: 10).
        fusion: "two_step" (paper), "initial_only", "second_only" (what the release's scripts run), "mlp"
            (initial, then an MLP), "none". Without a second fusion all frames get the same prompts.
        map_size: Side of the stride-16 map: the segmenter's image size divided by 16 (64 at 1024 pixels).
        grid: Side of the down-sampled map (release: 8).
        in_channels: C_in of the map; None: C, as in SAM2.
        initial_dim: C_1, width of the cells of the initial fusion; None: C (release: 256).
        initial_heads: Heads of width H / initial_heads in the initial fusion.
        gate: First value of the initial fusion's gate.
        num_heads: Heads of the second fusion; each needs a width of 6 or more.
        num_layers: Layers of the second fusion.
        dropout: Of the second fusion.
        query_space: See ``SecondFusion``.
        time_rotation: See ``SecondFusion``.
        shared_token: One embedding for all [ST] (release), see ``STTokens``.
        token_std: Standard deviation of the first [ST] embeddings.
        max_frames: Most frames of a clip (release: 100).

    Raises:
        UserError: For sizes that do not fit together, or an unknown ``fusion``.
    """

    def __init__(
        self,
        hidden_size: int,
        prompt_dim: int = 256,
        *,
        num_tokens: int = 10,
        fusion: str = "two_step",
        map_size: int = 64,
        grid: int = 8,
        in_channels: int | None = None,
        initial_dim: int | None = None,
        initial_heads: int = 8,
        gate: float = 0.1,
        num_heads: int = 8,
        num_layers: int = 2,
        dropout: float = 0.1,
        query_space: bool = False,
        time_rotation: bool = True,
        shared_token: bool = False,
        token_std: float = 0.02,
        max_frames: int = 100,
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise UserError(f"fusion must be one of {sorted(FUSIONS)}, got {fusion!r}")
        with_initial, second = FUSIONS[fusion]
        in_channels, strides = in_channels or prompt_dim, strides_for(map_size, grid)
        self.fusion, self.num_tokens, self.max_frames = fusion, num_tokens, max_frames
        self.map_shape = (in_channels, map_size, map_size)
        self.st_tokens = STTokens(num_tokens, hidden_size, shared=shared_token, std=token_std)
        self.initial_fusion: InitialFusion | None = None
        if with_initial:
            self.initial_fusion = InitialFusion(
                hidden_size, in_channels, initial_dim or prompt_dim, initial_heads, gate, strides
            )
        self.second_fusion: SecondFusion | RepeatedPrompt
        if second == "decoder":
            self.second_fusion = SecondFusion(
                hidden_size,
                prompt_dim,
                in_channels,
                num_heads,
                num_layers,
                dropout,
                strides,
                query_space,
                time_rotation,
            )
        else:
            self.second_fusion = RepeatedPrompt(hidden_size, prompt_dim, mlp=second == "mlp")

    def condense(self, features: Tensor) -> FusionTokens:
        """Down-sample (B, T, C_in, h16, w16) once for both fusions; several queries may share the result.

        Raises:
            ValueError: If the shape is another than was configured.
        """
        initial, second = self._cells("initial", features), self._cells("second", features)
        return FusionTokens(features.shape[0], features.shape[1], initial, second)

    def initial(self, features: Tensor | FusionTokens, mask: Tensor | None = None) -> Tensor:
        """(B, N, H) input embeddings of the [ST] tokens for the language model.

        Without an initial fusion they are the learned embeddings, whatever the features.

        Raises:
            ValueError: For a wrong shape, too many frames, or a clip whose frames are all padded.
        """
        batch_size, _ = self._check(features, mask)
        embeds = self.st_tokens(batch_size)
        if self.initial_fusion is None:
            return embeds
        return self.initial_fusion(embeds, self._tokens("initial", features), mask)

    def second(
        self,
        hidden: Tensor,
        features: Tensor | FusionTokens,
        mask: Tensor | None = None,
        token_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, N, H) states -> (B, T, N, C) prompts and (B, T) float32 frame scores.

        The scores are shares of attention that sum to 1, without a graph; 0 without a second fusion.

        Raises:
            ValueError: As ``initial``, and if a row of ``token_mask`` has no token.
        """
        batch_size, num_frames = self._check(features, mask)
        if batch_size not in (1, len(hidden)):
            raise ValueError(f"features of batch {batch_size} do not fit the states' batch {len(hidden)}")
        if token_mask is not None and not bool(token_mask.any(1).all()):
            raise ValueError("every row of token_mask needs a token; leave out dialogues that have none")
        hidden = hidden.to(self.st_tokens.embeddings.dtype)
        if isinstance(self.second_fusion, RepeatedPrompt):
            return self.second_fusion(hidden, num_frames, mask)
        tokens = self._tokens("second", features).expand(len(hidden), -1, -1, -1)
        return self.second_fusion(hidden, tokens, mask, token_mask)

    def forward(
        self,
        hidden: Tensor,
        features: Tensor | FusionTokens,
        mask: Tensor | None = None,
        token_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The same as ``second``."""
        return self.second(hidden, features, mask, token_mask)

    def _check(self, features: Tensor | FusionTokens, mask: Tensor | None) -> tuple[int, int]:
        """B and T of a clip, once its shape and mask are right."""
        if isinstance(features, FusionTokens):
            size = features.batch_size, features.num_frames
        elif features.ndim == 5 and tuple(features.shape[2:]) == self.map_shape:
            size = int(features.shape[0]), int(features.shape[1])
        else:
            raise ValueError(
                f"expected features (B, T, {', '.join(map(str, self.map_shape))}), got "
                f"{tuple(features.shape)}; map_size and in_channels must be those of the segmenter"
            )
        if not 1 <= size[1] <= self.max_frames:
            raise UserError(
                f"a clip must have 1 to {self.max_frames} frames, got {size[1]}; sample fewer frames or "
                "raise max_frames"
            )
        if mask is not None and (tuple(mask.shape) != size or mask.dtype != torch.bool):
            raise ValueError(f"mask must be {size} (B, T) bool, got {tuple(mask.shape)} {mask.dtype}")
        if mask is not None and not bool(mask.any(1).all()):
            raise ValueError("every clip needs a frame that is not padded; a row of mask is all False")
        return size

    def _cells(self, step: str, features: Tensor) -> Tensor | None:
        """Down-sampled (B, T, S, C) cells of one step, None where it has no use for any."""
        self._check(features, None)
        module = getattr(self, f"{step}_fusion")
        if not isinstance(module, InitialFusion | SecondFusion):
            return None
        return module.frame_tokens(features.to(self.st_tokens.embeddings.dtype))

    def _tokens(self, step: str, features: Tensor | FusionTokens) -> Tensor:
        """The cells that one step reads.

        Raises:
            ValueError: If the tokens come from a module without that step.
        """
        made = self._cells(step, features) if isinstance(features, Tensor) else getattr(features, step)
        if made is None:
            raise ValueError(f"these FusionTokens hold nothing for the {step} fusion: condense them here")
        return made
