"""Initial weights of small models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from refstream.models.initialisation import initialise_segmenter, matched, sine_positions
from refstream.models.segmenter.sam1 import Sam1Segmenter
from refstream.models.segmenter.sam2 import Sam2Segmenter
from refstream.testing.small import SAM1


def test_matched_projections_are_equal_and_orthogonal_within_a_head() -> None:
    query, key = nn.Linear(16, 8), nn.Linear(16, 8)
    with torch.no_grad():
        matched(query, key, num_heads=2, gain=1.5)
    assert torch.equal(query.weight, key.weight)
    for rows in query.weight.chunk(2):
        assert torch.allclose(rows @ rows.T, 1.5**2 * torch.eye(4), atol=1e-5)


def test_sine_positions_differ_everywhere() -> None:
    table = sine_positions(4, 8)
    assert table.shape == (16, 8)
    assert torch.cdist(table, table).add(torch.eye(16)).min() > 0.05


def test_a_segmenter_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="prepares a Sam2Segmenter, got Sam1Segmenter: leave segmenter out"):
        initialise_segmenter(Sam1Segmenter(SAM1))  # type: ignore[arg-type]


def test_a_fresh_segmenter_attends_near_its_point() -> None:
    torch.manual_seed(0)
    trunk = dict(embed_dim=8, num_heads=1, stages=[1, 1, 2, 1], global_att_blocks=[3])
    segmenter = Sam2Segmenter.from_reduced(
        dict(image_size=128, hidden_dim=64, mem_dim=16, trunk=trunk, mask_decoder=dict(heads=2, mlp=64))
    )
    initialise_segmenter(segmenter)
    model = segmenter.model
    assert torch.equal(
        model.shared_image_embedding.positional_embedding,
        model.prompt_encoder.shared_embedding.positional_embedding,
    )
    layer = model.mask_decoder.transformer.final_attn_token_to_image
    assert torch.equal(layer.q_proj.weight, layer.k_proj.weight)
