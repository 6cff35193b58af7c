"""The head: its codes and shapes, and that a point is judged by what is seen at its own place."""

from __future__ import annotations

import math

import pytest
import torch
from refstream_projects.spot.geometry import grid_points
from refstream_projects.spot.head import BoxPointHead, place_code
from refstream_projects.spot.head_reader import frame_cells

from refstream.errors import UserError
from refstream.registry import HEADS

SIZES = dict(hidden_size=24, prompt_dim=8, points=9, width=32, heads=4)


def head(**keys: object) -> BoxPointHead:
    torch.manual_seed(0)
    built: BoxPointHead = HEADS.build(dict(SIZES, type="BoxPointHead", **keys))
    return built


def test_place_codes_are_sines_of_half_a_wave_to_sixteen() -> None:
    code = place_code(torch.tensor([0.25, 0.5], dtype=torch.float64), 8)
    x, y = (0.25 * math.pi, 0.25 * math.pi * 32), (0.5 * math.pi, 0.5 * math.pi * 32)
    expected = [f(a) for f in (math.sin, math.cos) for a in (*x, *y)]
    assert code.tolist() == pytest.approx(expected, abs=1e-12)
    assert place_code(torch.zeros(3, 5, 2), 16).shape == (3, 5, 16)
    with pytest.raises(ValueError, match="multiple of 4"):
        place_code(torch.zeros(2), 6)


def test_neighbouring_places_have_similar_codes() -> None:
    at = torch.tensor([[0.5, 0.5], [0.52, 0.5], [0.7, 0.5], [0.1, 0.9]])
    code = place_code(at, 64)
    near, far, farthest = (code[1:] @ code[0]).tolist()
    assert near > far > farthest
    assert float(code[0] @ code[0]) == pytest.approx(32)  # a sine and a cosine each


def test_boxes_are_centres_and_sizes_by_sigmoids() -> None:
    module = head().double()
    last = module.box_layers[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.0, math.log(3), math.log(1 / 3), 0.0]))
    boxes = module.boxes(torch.randn(2, 24, dtype=torch.float64))
    assert boxes.dtype == torch.float64
    assert boxes[0].tolist() == pytest.approx([0.5 - 0.125, 0.75 - 0.25, 0.5 + 0.125, 0.75 + 0.25])
    wild = head()
    with torch.no_grad():
        wild.box_layers[-1].bias.copy_(torch.tensor([90.0, -90.0, -90.0, 90.0]))
    corners = wild.boxes(torch.randn(3, 24))
    assert bool(corners.isfinite().all())
    assert bool((corners[:, :2] <= corners[:, 2:]).all())


def test_points_are_constants_of_the_judgement() -> None:
    module = head()
    states, seen = torch.randn(2, 24, requires_grad=True), torch.randn(2, 4, 24, requires_grad=True)
    cells = frame_cells(None, 4)
    boxes = module.boxes(states)
    z = module.judge(states, seen, cells, grid_points(boxes, 3))
    assert z.shape == (2, 9)
    z.sum().backward()
    assert all(p.grad is None for p in module.box_layers.parameters())
    assert states.grad is not None
    assert seen.grad is not None
    assert bool((seen.grad.abs().sum(-1) > 0).all())
    assert all(p.grad is not None for n, p in module.named_parameters() if not n.startswith("box_layers"))


def test_rows_do_not_see_each_other() -> None:
    module = head().double()
    states, seen = torch.randn(3, 24).double(), torch.randn(3, 16, 24).double()
    points, cells = torch.rand(3, 9, 2).double(), frame_cells(None, 16)
    boxes, z = module(states, seen, cells, points)
    for row in range(3):
        one = slice(row, row + 1)
        alone = module(states[one], seen[one], cells, points[one])
        assert torch.allclose(alone[0], boxes[one], atol=1e-12)
        assert torch.allclose(alone[1], z[one], atol=1e-12)


def test_a_fresh_point_looks_at_its_own_place() -> None:
    """What is seen next to a point changes its judgement more than what is seen far away."""
    module = head(width=64, heads=2, layers=1)
    cells = frame_cells(None, 64)
    points = cells[torch.linspace(0, 63, 9).long()][None]
    seen = torch.zeros(1, 64, 24, requires_grad=True)
    z = module.judge(torch.zeros(1, 24), seen, cells, points)
    near, far = [], []
    for k in range(9):
        (grad,) = torch.autograd.grad(z[0, k], seen, retain_graph=True)
        weight, distance = grad[0].norm(dim=-1), (cells - points[0, k]).norm(dim=-1)
        near.append(float(weight[distance < 0.1].mean()))
        far.append(float(weight[distance > 0.3].mean()))
    assert sum(near) > 2 * sum(far)


def test_it_learns_which_points_lie_on_what_is_seen() -> None:
    """Cells of an object differ in one channel; points of random boxes are judged by the nearest cell."""
    module, maker = head(points=25, width=32, heads=2, layers=1), torch.Generator().manual_seed(0)
    cells = frame_cells(None, 64)
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    right = []
    for step in range(300):
        corners = torch.rand(16, 2, 2, generator=maker).sort(1).values.flatten(1)
        points = grid_points(corners)
        truth = torch.rand(16, 2, 2, generator=maker).sort(1).values
        on = ((cells > truth[:, :1]) & (cells < truth[:, 1:])).all(-1)
        seen = torch.randn(16, 64, 24, generator=maker)
        seen[..., 0] = on.float() * 4 - 2
        nearest = torch.cdist(points, cells[None].expand(16, -1, -1)).argmin(-1)
        labels = on.gather(1, nearest).float()
        z = module.judge(torch.zeros(16, 24), seen, cells, points)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= 280:
            right.append(float(((z > 0) == (labels > 0)).float().mean()))
    assert sum(right) / len(right) > 0.93


@pytest.mark.parametrize(
    "keys", [dict(width=30), dict(width=36, heads=8), dict(points=0), dict(layers=0), dict(heads=0)]
)
def test_sizes_that_do_not_fit(keys: dict[str, int]) -> None:
    with pytest.raises(UserError, match="must be at least 1"):
        BoxPointHead(**{**SIZES, **keys})  # type: ignore[arg-type]


def test_shapes_that_do_not_fit() -> None:
    module, cells = head(), frame_cells(None, 4)
    for points, seen in ((8, 4), (9, 5)):
        with pytest.raises(ValueError, match="need points"):
            module.judge(torch.zeros(2, 24), torch.zeros(2, seen, 24), cells, torch.zeros(2, points, 2))


def test_cells_of_vision_tokens() -> None:
    assert frame_cells(None, 4).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]

    class Oblong:
        image_grid = (1, 2)

    assert frame_cells(Oblong(), 2).tolist() == [[0.25, 0.5], [0.75, 0.5]]
    assert frame_cells(Oblong(), 1).tolist() == [[0.5, 0.5]]  # pooled
    with pytest.raises(UserError, match="are no square"):
        frame_cells(Oblong(), 3)
