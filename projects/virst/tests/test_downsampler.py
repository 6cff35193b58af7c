"""The down-sampler: the public code's numbers, and smaller maps."""

from __future__ import annotations

import pytest
import torch
from refstream_projects.virst.downsampler import DownSampler, strides_for
from refstream_projects.virst.tests.weights import arrays, assert_near, initial_fusion

from refstream.errors import UserError


@pytest.mark.parametrize("size", [64, 60])
def test_public_code(size: int) -> None:
    data = arrays("stf", "down")
    features = data["map_int8"].float()[..., :size, :size] / 32
    down_sampler = initial_fusion("stf", num_heads=8).down_sampler
    assert_near(down_sampler.feature_map(features), data[f"size{size}/map"])
    assert_near(down_sampler(features), data[f"size{size}/tokens"])


@pytest.mark.parametrize(
    ("map_size", "grid", "strides"),
    [
        (64, 8, (2, 2, 2)),
        (60, 8, (2, 2, 2)),
        (32, 8, (1, 2, 2)),
        (8, 8, (1, 1, 1)),
        (8, 4, (1, 1, 2)),
        (4, 1, (1, 2, 2)),
        (1, 1, (1, 1, 1)),
    ],
)
def test_strides_reach_the_grid(map_size: int, grid: int, strides: tuple[int, ...]) -> None:
    assert strides_for(map_size, grid) == strides
    module = DownSampler(3, 5, strides)
    assert module(torch.randn(2, 3, map_size, map_size)).shape == (2, grid * grid, 5)
    assert sum(p.numel() for p in module.parameters()) == (27 * 5 + 5) + 2 * (45 * 5 + 5) + 10


@pytest.mark.parametrize(("map_size", "grid"), [(64, 7), (128, 8), (4, 8)])
def test_a_grid_out_of_reach_is_refused(map_size: int, grid: int) -> None:
    with pytest.raises(UserError, match=f"map of {map_size} x {map_size}.*not {grid}; set grid"):
        strides_for(map_size, grid)


@pytest.mark.parametrize("strides", [(2, 2), (2, 2, 3)])
def test_wrong_strides_are_refused(strides: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="three numbers of 1 or 2"):
        DownSampler(3, 5, strides)


def test_cells_go_row_by_row() -> None:
    """A bright column on the right of the map changes the last cells of each row only."""
    module = DownSampler(1, 4, (1, 1, 2))
    features = torch.zeros(1, 1, 16, 16)
    bright = features.clone()
    bright[..., 15] = 1.0
    changed = (module(bright) - module(features)).abs().sum(-1).reshape(8, 8) > 1e-6
    assert changed[:, 7].all()
    assert not changed[:, :6].any()
