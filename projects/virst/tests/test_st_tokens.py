"""The [ST] tokens: real parameters, written and read by index."""

from __future__ import annotations

import pytest
import torch
from refstream_projects.virst.st_tokens import STTokens, read_back, scatter_states


def test_embeddings_are_distinct_parameters() -> None:
    tokens = STTokens(10, 16)
    assert tokens(3).shape == (3, 10, 16)
    assert [(name, tuple(p.shape)) for name, p in tokens.named_parameters()] == [("embeddings", (10, 16))]
    assert len(tokens.embeddings.unique(dim=0)) == 10
    tokens(2).sum().backward()
    assert torch.equal(tokens.embeddings.grad, torch.full((10, 16), 2.0))


def test_one_shared_embedding() -> None:
    tokens = STTokens(10, 16, shared=True)
    assert tokens(1).shape == (1, 10, 16)
    assert len(tokens(1)[0].unique(dim=0)) == 1
    assert sum(p.numel() for p in tokens.parameters()) == 16


def test_only_the_given_rows_change() -> None:
    embeds, states = torch.randn(2, 7, 4, requires_grad=True), torch.randn(2, 3, 4, requires_grad=True)
    positions = torch.tensor([[2, 5, 6], [0, 3, 1]])
    written = scatter_states(embeds, positions, states)
    for row in range(2):
        for place in range(7):
            slots = (positions[row] == place).nonzero().flatten().tolist()
            expected = states[row, slots[0]] if slots else embeds[row, place]
            assert torch.equal(written[row, place], expected)
    written.sum().backward()
    assert torch.equal(states.grad, torch.ones_like(states))
    assert embeds.grad.sum(dim=(1, 2)).tolist() == [16, 16]  # 4 of 7 rows of width 4 each


def test_rows_without_tokens_are_left_alone() -> None:
    embeds, states = torch.randn(2, 5, 4), torch.randn(2, 2, 4)
    positions = torch.tensor([[-1, -1], [3, 4]])
    written = scatter_states(embeds, positions, states)
    assert torch.equal(written[0], embeds[0])
    assert torch.equal(written[1, 3:], states[1])
    assert not read_back(embeds, positions)[0].any()


def test_the_prompt_keeps_its_dtype() -> None:
    embeds = torch.zeros(1, 3, 4, dtype=torch.bfloat16)
    written = scatter_states(embeds, torch.tensor([[1]]), torch.ones(1, 1, 4))
    assert written.dtype == torch.bfloat16
    assert written[0].sum(1).tolist() == [0, 4, 0]


def test_states_are_read_at_the_tokens_themselves() -> None:
    """A language model that answers with its position ids: catches a shift by one."""
    hidden = torch.arange(12.0).repeat(2, 1)[..., None].expand(2, 12, 3)
    positions = torch.tensor([[4, 7, 11], [0, 1, 10]])
    assert torch.equal(read_back(hidden, positions)[..., 0], positions.float())


def test_what_was_written_is_read_back() -> None:
    embeds, states = torch.randn(2, 9, 4), torch.randn(2, 3, 4)
    positions = torch.tensor([[8, 0, 4], [1, 2, 3]])
    assert torch.equal(read_back(scatter_states(embeds, positions, states), positions), states)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"states must be \(B, N, H\) = \(2, 3, 4\)"):
        scatter_states(torch.zeros(2, 7, 4), torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 2, 4))
    with pytest.raises(ValueError, match="positions must be"):
        read_back(torch.zeros(2, 7, 4), torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        STTokens(0, 4)
