"""A regression head, the alternative to words: one state gives the box, and judges points in the frame.

The other way to differentiable prompts (SPOT, CVPR 2026, adds no module): the answer is one token; its state
goes through an MLP to a box, and with the states of the frame's vision tokens it is what learned point
embeddings attend to, from which the logit of each point is read. Points know where they lie: place codes are
added to them and to the vision tokens, as in DETR (Carion et al., ECCV 2020), so that a point of a moved or
wrong box is judged where it is.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refstream.errors import UserError
from refstream.models.mllm.tokens import SEG
from refstream.registry import HEADS

from .geometry import GRID_SIZE, full_precision

SHARPNESS = 2.0  # of the first attention: a point looks at its own place


def place_code(places: Tensor, width: int) -> Tensor:
    """Sines and cosines of places.

    Args:
        places: (..., 2) x, y in [0, 1].
        width: Of the code, a multiple of 4.

    Returns:
        (..., width) float32 (float64 for float64), from half a wave over the frame to 16 waves.

    Raises:
        ValueError: For another width.
    """
    if width % 4:
        raise ValueError(f"the width must be a multiple of 4, got {width}")
    given = full_precision(places)
    steps = torch.linspace(0, 1, width // 4, device=given.device, dtype=given.dtype)
    angles = (given[..., None] * (math.pi * 32.0**steps)).flatten(-2)  # (..., width / 2)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


class PointLayer(nn.Module):
    """Points attend to what is seen, and think about it; residual, with norms before.

    Args:
        width: Of points and of what is seen.
        heads: Of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.seen_norm, self.last_norm = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        with torch.no_grad():
            self.query.weight.mul_(SHARPNESS)
            self.key.weight.copy_(self.query.weight)  # alike codes of places find each other from the start

    def forward(self, points: Tensor, seen: Tensor, places: Tensor, seen_places: Tensor) -> Tensor:
        """(N, K, C) points, (N, n, C) seen, and their codes -> (N, K, C)."""
        known = self.seen_norm(seen)
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in (
                (self.query, self.norm(points) + places),
                (self.key, known + seen_places),
                (self.value, known),
            )
        )
        read = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        points = points + self.out(read)
        thought: Tensor = self.down(F.gelu(self.up(self.last_norm(points))))
        return points + thought


@HEADS.register_module()
class BoxPointHead(nn.Module):
    """From the state of an answer's token to a box, and from what is seen to judgements of points.

    Args:
        hidden_size: D of the MLLM.
        prompt_dim: Of the segmenter; of no use, its own prompt encoder takes boxes and points.
        answer: The token whose state is read, which is all that is answered where the object is seen. "[SEG]"
            is in every vocabulary here, and knows of places where it has been trained.
        points: K, judged points of a box.
        width: C, of points.
        heads: Of their attention.
        layers: Of their attention.

    Raises:
        UserError: For sizes that do not fit together.
    """

    def __init__(
        self,
        hidden_size: int,
        prompt_dim: int = 256,
        *,
        answer: str = SEG,
        points: int = GRID_SIZE * GRID_SIZE,
        width: int = 256,
        heads: int = 8,
        layers: int = 2,
    ) -> None:
        super().__init__()
        if min(points, width, heads, layers) < 1 or width % heads or width % 4:
            raise UserError(
                "points, width, heads and layers must be at least 1, and width a multiple of heads and of 4; "
                f"got {points}, {width}, {heads} and {layers}"
            )
        self.answer, self.num_points, self.width = answer, points, width
        self.box_layers = nn.Sequential(
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, 4),
        )
        self.state, self.seen = nn.Linear(hidden_size, width), nn.Linear(hidden_size, width)
        self.points = nn.Embedding(points, width)
        self.layers = nn.ModuleList(PointLayer(width, heads) for _ in range(layers))
        self.norm, self.judgement = nn.LayerNorm(width), nn.Linear(width, 1)

    def forward(self, states: Tensor, seen: Tensor, cells: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and judgements, see ``boxes`` and ``judge``."""
        return self.boxes(states), self.judge(states, seen, cells, points)

    def boxes(self, states: Tensor) -> Tensor:
        """(N, D) states -> (N, 4) float32 xyxy (float64 for float64), corners in order.

        Four sigmoids give centre and size, so edges may lie up to half a frame outside of it.
        """
        given: Tensor = self.box_layers(states.to(self.points.weight.dtype))
        centre, size = full_precision(given).sigmoid().chunk(2, dim=-1)
        return torch.cat((centre - size / 2, centre + size / 2), dim=-1)

    def judge(self, states: Tensor, seen: Tensor, cells: Tensor, points: Tensor) -> Tensor:
        """Logits of points.

        Args:
            states: (N, D) of the answers' tokens.
            seen: (N, n, D) states of the frame's vision tokens.
            cells: (n, 2) places of the vision tokens, x, y in [0, 1].
            points: (N, K, 2) places to judge, taken as constants.

        Returns:
            (N, K) float32 (float64 for float64), > 0 means on the object.

        Raises:
            ValueError: If shapes do not fit.
        """
        wanted = (len(states), self.num_points, 2)
        if points.shape != wanted or seen.shape[:2] != (len(states), len(cells)):
            raise ValueError(
                f"need points {wanted} and states of {len(cells)} vision tokens per answer, got "
                f"{tuple(points.shape)} and {tuple(seen.shape)}"
            )
        dtype, device = self.points.weight.dtype, states.device
        state = self.state(states.to(dtype))[:, None]
        known = torch.cat((state, self.seen(seen.to(dtype))), dim=1)
        places = place_code(points.detach().to(device), self.width).to(known.dtype)
        codes = place_code(cells.to(device), self.width).to(known.dtype)
        codes = F.pad(codes, (0, 0, 1, 0)).expand(len(states), -1, -1)  # the state lies nowhere
        one = self.points.weight.to(known.dtype) + state
        for layer in self.layers:
            one = layer(one, known, places, codes)
        return full_precision(self.judgement(self.norm(one))[..., 0])
