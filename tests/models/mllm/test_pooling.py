"""Pooling of vision tokens: means of squares, and a clear word where the grid does not divide."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from refstream.errors import UserError
from refstream.models.mllm.pooling import check_pooling, pool_tokens


def test_pooling_averages_squares() -> None:
    grid = torch.arange(256.0).reshape(1, 16, 16, 1).expand(2, -1, -1, 3)
    tokens = grid.flatten(1, 2)
    for wanted, step in ((64, 2), (16, 4), (1, 16)):
        pooled = pool_tokens(tokens, wanted)
        by_hand = F.avg_pool2d(grid.permute(0, 3, 1, 2), step).flatten(2).transpose(1, 2)
        torch.testing.assert_close(pooled, by_hand)
    assert pool_tokens(tokens, 256) is tokens


@pytest.mark.parametrize(("whole", "wanted"), [(256, 0), (256, 32), (256, 9), (256, 1024), (5, 1)])
def test_pooling_that_does_not_divide(whole: int, wanted: int) -> None:
    with pytest.raises(UserError, match="frame_tokens must be one of"):
        check_pooling(whole, wanted)
