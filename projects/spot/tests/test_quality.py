"""SmoothL1 of boxes and cross-entropy of points: values by hand."""

from __future__ import annotations

import math

import pytest
import torch
from refstream_projects.spot.quality import box_loss, point_loss

TRUTH = torch.tensor([[0.2, 0.2, 0.6, 0.6]])


def test_small_errors_are_quadratic_large_ones_linear() -> None:
    boxes = TRUTH + torch.tensor([[0.05, 0.0, 0.0, 0.3]])
    expected = 0.5 * 0.05**2 * 9 + (0.3 - 1 / 18)
    assert box_loss(boxes, TRUTH).tolist() == pytest.approx([expected], rel=1e-5)
    assert box_loss(boxes, TRUTH, beta=1.0).tolist() == pytest.approx([0.5 * (0.05**2 + 0.3**2)], rel=1e-5)
    assert box_loss(boxes, TRUTH, beta=0.0).tolist() == pytest.approx([0.35], rel=1e-5)


def test_undecided_points_cost_ln_2_each() -> None:
    z, labels = torch.zeros(2, 25), torch.randint(0, 2, (2, 25))
    assert point_loss(z, labels).tolist() == pytest.approx([25 * math.log(2)] * 2)  # 17.3
    assert point_loss(z, labels, "mean").tolist() == pytest.approx([math.log(2)] * 2)


def test_points_are_cross_entropy_of_the_two_way_softmax() -> None:
    yes, no = torch.randn(2, 3, 25, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 2, (3, 25), generator=torch.Generator().manual_seed(1))
    expected = torch.nn.functional.cross_entropy(torch.stack((no, yes), 1), labels, reduction="none").sum(1)
    assert torch.allclose(point_loss(yes - no, labels), expected, atol=1e-5)
    assert torch.allclose(point_loss(-1e4 * (2 * labels - 1.0), labels), torch.tensor(25e4))  # no overflow


def test_no_object_has_no_loss() -> None:
    assert box_loss(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)
    assert point_loss(torch.zeros(0, 25), torch.zeros(0, 25), "mean").shape == (0,)
    assert point_loss(torch.zeros(2, 0), torch.zeros(2, 0), "mean").tolist() == [0, 0]


def test_bad_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        box_loss(torch.zeros(2, 4), torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"\(N, K\)"):
        point_loss(torch.zeros(2, 4), torch.zeros(2, 5))
    with pytest.raises(ValueError, match="reduction"):
        point_loss(torch.zeros(2, 4), torch.zeros(2, 4), "max")
