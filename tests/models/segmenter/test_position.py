"""Position tables against transformers' and the sam2 package's own."""

from __future__ import annotations

import pytest
import torch
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoPositionEmbeddingSine, get_1d_sine_pe

from refstream.models.segmenter.position import axial_rotary, random_fourier, sine_1d, sine_grid

CPU = torch.device("cpu")


@pytest.mark.parametrize(("height", "width"), [(8, 8), (3, 5)])
def test_sine_grid(height: int, width: int) -> None:
    table = sine_grid(12, height, width, CPU)
    reference = Sam2VideoPositionEmbeddingSine(num_position_features=6, normalize=True)
    expected = reference(torch.Size((1, 12, height, width)), CPU, torch.float32)
    assert table.shape == (1, 12, height, width)
    torch.testing.assert_close(table, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (3, 5)])
def test_axial_rotary(height: int, width: int) -> None:
    cis = pytest.importorskip("sam2.modeling.position_encoding").compute_axial_cis
    expected = cis(dim=16, end_x=width, end_y=height, theta=10000.0)
    cos, sin = axial_rotary(16, height, width, 10000.0, CPU)
    assert cos.shape == sin.shape == (1, height * width, 16)
    torch.testing.assert_close(torch.complex(cos, sin)[0, :, ::2], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(cos[..., ::2], cos[..., 1::2])


def test_sine_1d() -> None:
    positions = torch.tensor([0.0, 0.2, 1.0, 4.0])
    torch.testing.assert_close(sine_1d(positions, 10), get_1d_sine_pe(positions, 10), rtol=0, atol=1e-6)


def test_random_fourier() -> None:
    matrix = torch.tensor([[0.25, 0.0], [0.0, 0.5]])
    encoded = random_fourier(torch.tensor([[1.0, 0.5]]), matrix)  # angles: pi / 2 and 0
    torch.testing.assert_close(encoded, torch.tensor([[1.0, 0.0, 0.0, 1.0]]), rtol=0, atol=1e-6)


def test_a_table_made_in_inference_mode_serves_training() -> None:
    with torch.inference_mode():
        first = sine_grid(4, 2, 7, CPU)
    weight = torch.ones(4, 1, 1, requires_grad=True)
    (weight * sine_grid(4, 2, 7, CPU)).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad[:, 0, 0], first[0].sum((1, 2)))
