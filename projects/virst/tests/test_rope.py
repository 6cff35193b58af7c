"""3D rotary positions: the public code's numbers, and what relative positions promise."""

from __future__ import annotations

import pytest
import torch
from refstream_projects.virst.rope import band_widths, cell_positions, query_positions, rotation
from refstream_projects.virst.tests.weights import arrays, assert_near, case

from refstream.errors import UserError

HEAD_DIM = 32
FREE = slice(30, 32)


def test_bands_of_the_public_code() -> None:
    golden = case()["rope_split_by_head_dim_t_y_x_free"]
    assert golden["32"] == [10, 10, 10, 2]
    for head_dim, widths in golden.items():
        assert list(band_widths(int(head_dim))) == widths


@pytest.mark.parametrize("head_dim", [1, 4, 5])
def test_too_narrow_heads_are_refused(head_dim: int) -> None:
    with pytest.raises(UserError, match=f"6 or more.*got {head_dim}; use fewer heads"):
        band_widths(head_dim)


@pytest.mark.parametrize("entry", case()["rope"], ids=lambda entry: entry["name"])
def test_rotations_of_the_public_code(entry: dict) -> None:
    data = arrays("stf", f"rope/{entry['name']}")
    cells = cell_positions(entry["T"], entry["grid"], entry["grid"])
    queries = query_positions(cells, entry["T"], entry["N"])
    assert torch.equal(cells, data["key_tyx"].float())
    assert torch.equal(queries[:, 0], data["query_t"].float())
    assert not queries[:, 1:].any()
    assert_near(rotation(cells, entry["head_dim"]).apply(data["keys"]), data["keys_rotated"])
    assert_near(rotation(queries, entry["head_dim"]).apply(data["queries"]), data["queries_rotated"])


def test_closed_form() -> None:
    """Frequencies 10000 ** (-i / 5); band y starts at channel 10."""
    x = torch.zeros(1, HEAD_DIM)
    x[0, 12], x[0, 13] = 1.0, 2.0  # second pair of the rows' band
    angle = torch.tensor(3 * 10000 ** (-1 / 5))
    turned = rotation(torch.tensor([[7.0, 3.0, 5.0]]), HEAD_DIM).apply(x)
    expected = torch.zeros_like(x)
    expected[0, 12] = angle.cos() - 2 * angle.sin()
    expected[0, 13] = angle.sin() + 2 * angle.cos()
    torch.testing.assert_close(turned, expected)


def test_origin_is_the_identity_and_norms_stay() -> None:
    x, places = torch.randn(2, 5, HEAD_DIM), torch.rand(5, 3) * 20
    assert torch.equal(rotation(torch.zeros(5, 3), HEAD_DIM).apply(x), x)
    turned = rotation(places, HEAD_DIM).apply(x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert not torch.allclose(turned, x)
    assert torch.equal(turned[..., FREE], x[..., FREE])


def test_the_dtype_is_kept() -> None:
    assert (
        rotation(torch.ones(2, 3), 8).apply(torch.randn(2, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
    )


def logits(cells: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Attention logits of fixed random vectors standing at these places."""
    generator = torch.Generator().manual_seed(3)
    q = torch.randn(len(queries), HEAD_DIM, generator=generator)
    k = torch.randn(len(cells), HEAD_DIM, generator=generator)
    return rotation(queries, HEAD_DIM).apply(q) @ rotation(cells, HEAD_DIM).apply(k).T


def test_time_is_relative() -> None:
    cells = cell_positions(3, 2, 2)
    queries = query_positions(cells, 3, 2)
    later = torch.tensor([5.0, 0.0, 0.0])
    base = logits(cells, queries)
    torch.testing.assert_close(logits(cells + later, queries + later), base, rtol=1e-4, atol=1e-4)
    assert (logits(cells + later, queries) - base).abs().max() > 0.1


@pytest.mark.parametrize("axis", [1, 2])
def test_space_is_absolute_unless_queries_have_a_place(axis: int) -> None:
    cells = cell_positions(3, 4, 4)
    shift = torch.zeros(3)
    shift[axis] = 2.0
    for space in (False, True):
        base = logits(cells, query_positions(cells, 3, 2, space=space))
        moved = logits(cells + shift, query_positions(cells + shift, 3, 2, space=space))
        same = torch.allclose(moved, base, rtol=1e-4, atol=1e-4)
        assert same is space, f"space={space}"


def test_places_of_queries() -> None:
    cells = cell_positions(2, 3, 3)
    assert query_positions(cells, 2, 2).tolist() == [[0, 0, 0], [1, 0, 0]] * 2
    assert query_positions(cells, 2, 1, space=True).tolist() == [[0, 1, 1], [1, 1, 1]]
