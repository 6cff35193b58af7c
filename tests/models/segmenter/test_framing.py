"""Padding frames to a square and cutting masks out of it: extents, closed forms, torch's sampler."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import SamImageProcessor

from refstream.models.segmenter.framing import cut_to_frame, fitted_size, frame_extent, padded_pixels

SIZES = [(480, 854), (90, 33), (64, 64), (7, 7), (1, 1), (1, 900), (63, 64)]


@pytest.mark.parametrize("size", SIZES)
def test_extent_survives_the_pixels(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 124, dtype=np.uint8)  # near the mean, so near 0 once normalised
    pixels = padded_pixels([image, np.zeros((64, 64, 3), np.uint8)], 64)
    assert pixels.shape == (2, 3, 64, 64)
    assert pixels.dtype == torch.float32
    extent = frame_extent(pixels)
    assert extent.tolist() == [list(fitted_size(*size, 64)), [64, 64]]
    height, width = extent[0].tolist()
    assert max(height, width) == 64
    assert pixels[0, :, :height, :width].isfinite().all()
    assert pixels[0, :, height:].isnan().all()
    assert pixels[0, :, :, width:].isnan().all()


def test_sizes_round_as_transformers_rounds_them() -> None:
    theirs = SamImageProcessor()._get_preprocess_shape
    for height in range(1, 1300, 37):
        for width in range(1, 1300, 41):
            expected = theirs((height, width), 1024)
            assert fitted_size(height, width, 1024) == tuple(max(side, 1) for side in expected)


def test_bad_images() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        padded_pixels([], 64)
    with pytest.raises(ValueError, match="uint8 RGB"):
        padded_pixels([np.zeros((4, 4, 3), np.float32)], 64)


def test_a_frame_that_fills_the_square_is_left_as_it_is() -> None:
    maps = torch.randn(3, 2, 16, 16)
    assert torch.equal(cut_to_frame(maps, torch.ones(1, 2)), maps)


def test_a_plane_is_cut_exactly() -> None:
    """Logits a x + b y + c of the padded square are a s_x u + b s_y v + c of the frame, away from edges."""
    steps = (torch.arange(16, dtype=torch.float64) + 0.5) / 16
    x, y = steps.expand(16, 16), steps[:, None].expand(16, 16)
    shares = torch.tensor([[0.75, 1.0], [0.5625, 0.3]], dtype=torch.float64)
    plane = (2 * x - 3 * y + 0.5).expand(2, 1, 16, 16)
    cut = cut_to_frame(plane, shares)
    for i, (rows, columns) in enumerate(shares.tolist()):
        expected = 2 * columns * x - 3 * rows * y + 0.5
        assert torch.allclose(cut[i, 0, 2:, 2:], expected[2:, 2:], atol=1e-12)


def test_the_sampler_of_torch_agrees() -> None:
    torch.manual_seed(0)
    maps, shares = torch.randn(3, 2, 16, 16), torch.tensor([[0.6, 1.0], [1.0, 0.4], [1 / 16, 0.9]])
    theta = torch.zeros(3, 2, 3)
    for i, (rows, columns) in enumerate(shares.tolist()):
        theta[i] = torch.tensor([[columns, 0, columns - 1], [0, rows, rows - 1]])
    grid = F.affine_grid(theta, [3, 2, 16, 16], align_corners=False)
    expected = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(cut_to_frame(maps, shares), expected, rtol=0, atol=1e-5)
    shared = cut_to_frame(maps, shares[:1])
    torch.testing.assert_close(shared[0], expected[0], rtol=0, atol=1e-5)


def test_gradients_pass() -> None:
    maps = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    share = torch.tensor([[0.7, 0.9]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m: cut_to_frame(m, share), (maps,))
