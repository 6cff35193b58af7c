"""From the segmenter's stride-16 map to a few tokens per frame.

Source: VIRST (CVPR 2026), section on spatio-temporal fusion; released code: three convolutions of 3 x 3 with
stride 2, each with a ReLU, bring 64 x 64 to 8 x 8, then LayerNorm. Both fusions have a down-sampler of their
own. A smaller map (a smaller image) takes stride 1 in the first convolutions: the weights keep their shapes.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from refstream.errors import UserError

NUM_CONVOLUTIONS = 3


def strides_for(map_size: int, grid: int) -> tuple[int, ...]:
    """Strides of the three convolutions that bring a map of side ``map_size`` to ``grid``.

    A convolution of stride 2 halves the side and rounds up. 64 -> 8 gives (2, 2, 2), 8 -> 8 gives (1, 1, 1).

    Raises:
        UserError: If at most three halvings do not end at ``grid``.
    """
    sides = [map_size]
    while len(sides) <= NUM_CONVOLUTIONS:
        sides.append((sides[-1] + 1) // 2)
    if grid not in sides:
        raise UserError(
            f"three convolutions of stride 1 or 2 bring a map of {map_size} x {map_size} to a side in "
            f"{sorted(set(sides))}, not {grid}; set grid to one of these (map_size is the segmenter's image "
            "size divided by 16)"
        )
    halvings = sides.index(grid)
    return (1,) * (NUM_CONVOLUTIONS - halvings) + (2,) * halvings


class DownSampler(nn.Module):
    """Three convolutions with ReLU, then LayerNorm over the channels.

    Args:
        in_channels: C_in of the map.
        out_channels: C of the tokens.
        strides: Of the three convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, strides: Sequence[int] = (2, 2, 2)) -> None:
        super().__init__()
        if len(strides) != NUM_CONVOLUTIONS or not set(strides) <= {1, 2}:
            raise ValueError(f"strides must be three numbers of 1 or 2, got {tuple(strides)}")
        widths = (in_channels, *[out_channels] * NUM_CONVOLUTIONS)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 3, stride=stride, padding=1)
            for i, stride in enumerate(strides)
        )
        self.norm = nn.LayerNorm(out_channels)

    def feature_map(self, features: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C, rows, columns), before the LayerNorm; never negative."""
        for convolution in self.convolutions:
            features = convolution(features).relu()
        return features

    def forward(self, features: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, rows * columns, C) tokens, row by row."""
        return self.norm(self.feature_map(features).flatten(2).transpose(1, 2))
