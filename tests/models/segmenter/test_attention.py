"""The trunk's attention against transformers' module, and the shapes of pooled queries."""

from __future__ import annotations

import pytest
import torch
from transformers.models.sam2.modeling_sam2 import Sam2HieraDetConfig, Sam2MultiScaleAttention

from refstream.models.segmenter.attention import TrunkAttention


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("stride", [None, [2, 2]])
def test_same_as_transformers(heads: int, stride: list[int] | None) -> None:
    config = Sam2HieraDetConfig()
    config._attn_implementation = "eager"
    theirs = Sam2MultiScaleAttention(config, 12, 24, heads, query_stride=stride)
    ours = TrunkAttention(theirs)
    tokens = torch.randn(3, 8, 4, 12)
    output = ours(tokens)
    assert output.shape == ((3, 4, 2, 24) if stride else (3, 8, 4, 24))
    torch.testing.assert_close(output, theirs(tokens), rtol=0, atol=1e-6)
    assert set(ours.state_dict()) == set(theirs.state_dict())
