"""The two rounds: what is said, where in the tokens, and which loss teaches which of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from refstream_projects.spot.bridge import visible_alphas
from refstream_projects.spot.dialogue import (
    Exchange,
    box_turn,
    dialogue_length,
    exchange_turns,
    find_places,
    frame_signals,
    point_turn,
    read_signals,
)
from refstream_projects.spot.geometry import box_centre, point_labels
from refstream_projects.spot.losses import FrameTruth, SPOTLoss
from refstream_projects.spot.signals import spot_tokens
from refstream_projects.spot.text import SpotFormat
from torch import Tensor

from refstream.models.mllm.chat import Turn

from .speakers import SHORT, TOKENS, prompts_for, small_speaker

FORMATS: dict[str, SpotFormat] = {
    "words": SpotFormat(),
    "tokens": TOKENS,
    "internvl": SpotFormat(style="internvl", separator="\n"),
    "locations": SpotFormat(coordinates="locations"),
    "small grid": SpotFormat(grid=2),
}


def masks(*spans: tuple[int, int, int, int]) -> Tensor:
    """(N, 50, 100) masks of rectangles x0, y0, x1, y1 in pixels."""
    planes = torch.zeros(len(spans), 50, 100, dtype=torch.bool)
    for plane, (x0, y0, x1, y1) in zip(planes, spans, strict=True):
        plane[y0:y1, x0:x1] = True
    return planes


def exchange(text: SpotFormat = TOKENS, number: int = 1, **keys: Any) -> Exchange:
    spans = [(20, 10, 60, 40), (70, 5, 90, 20), (0, 30, 10, 50)][:number]
    return Exchange.of("the red circle", masks(*spans), text, **keys)


# ---------------------------------------------------------------- exchanges


def test_an_exchange_of_masks() -> None:
    made = Exchange.of("it", masks((20, 10, 60, 40), (0, 0, 0, 0), (70, 5, 90, 20)), TOKENS, jitter=0)
    assert made.objects == (0, 2)
    assert made.boxes.tolist() == [pytest.approx(b) for b in ([0.2, 0.2, 0.6, 0.8], [0.7, 0.1, 0.9, 0.4])]
    assert torch.equal(made.boxes, made.grid_boxes)
    assert made.points.shape == (2, 25, 2)
    assert made.labels.shape == (2, 25)
    assert bool(made.labels.all())  # a rectangle: without jitter round 2 never says no


def test_moved_grids_meet_background_and_are_judged_where_they_lie() -> None:
    truth = masks((20, 10, 60, 40))
    found: dict[float, list[float]] = {0.1: [], 0.3: []}
    for jitter, shares in found.items():
        for seed in range(40):
            maker = torch.Generator().manual_seed(seed)
            made = Exchange.of("it", truth, TOKENS, jitter=jitter, generator=maker)
            assert torch.equal(made.points, TOKENS.points(made.grid_boxes))
            assert torch.equal(made.labels[0], point_labels(truth[0], made.points[0]))
            assert made.boxes.tolist() == [pytest.approx([0.2, 0.2, 0.6, 0.8])]
            assert not torch.equal(made.boxes, made.grid_boxes)
            shares.append(float(made.labels.float().mean()))
    assert min(found[0.1]) == 1  # centres of cells lie a tenth inside: a small error does not bring them out
    assert min(found[0.3]) < 0.8


def test_the_grid_of_a_box_of_ones_own() -> None:
    own = torch.tensor([[0.4, 0.2, 1.4, 0.8]], requires_grad=True)
    made = Exchange.of("it", masks((20, 10, 60, 40)), TOKENS, grid_boxes=own)
    assert made.grid_boxes.tolist() == [pytest.approx([0.4, 0.2, 1.0, 0.8])]
    assert not made.points.requires_grad
    assert made.labels[0].reshape(5, 5).tolist() == [[1, 1, 0, 0, 0]] * 5
    with pytest.raises(ValueError, match="as many grid boxes"):
        Exchange.of("it", masks((20, 10, 60, 40)), TOKENS, grid_boxes=torch.zeros(2, 4))


@pytest.mark.parametrize("given", [masks(), masks((0, 0, 0, 0))])
def test_nothing_to_be_seen_is_refused(given: Tensor) -> None:
    made = Exchange.of("it", given, SpotFormat())
    assert len(made.boxes) == 0
    assert made.labels.shape == (0, 25)
    assert made.points.shape == (0, 25, 2)
    assert exchange_turns(SpotFormat(), made) == (box_turn(SpotFormat(), "it", "No object found."),)


def test_the_two_rounds() -> None:
    text = SpotFormat(grid=2, **SHORT)  # type: ignore[arg-type]
    made = exchange(text, 2, jitter=0)
    first, second, third = exchange_turns(text, made)
    both = "[200,200,600,800] [700,100,900,400]"
    assert first == Turn("where is the red circle", both, 1, images_first=True)
    asked = "the red circle [200,200,600,800] [300,350],[500,350],[300,650],[500,650]"
    assert second == Turn(asked, "Yes Yes Yes Yes")
    assert third.text.startswith("the red circle [700,100,900,400] [750,175],")
    assert third.images == 0
    assert point_turn(text, "the red circle", made.boxes[0], made.points[0]) == Turn(asked)
    assert box_turn(text, "the red circle", images=2) == Turn(
        "where is the red circle", None, 2, images_first=True
    )


# ---------------------------------------------------------------- places


@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_places_hold_what_was_said(text: SpotFormat, number: int) -> None:
    prompts = prompts_for(text)
    tokens = spot_tokens(prompts, text)
    made = exchange(text, number, generator=torch.Generator().manual_seed(3))
    chat = prompts.turns([[Turn("hello", "No 123")], exchange_turns(text, made)])
    places = find_places(chat.labels[1], number, text, tokens)
    ids = chat.input_ids[1]
    assert torch.equal(ids[places.rows + 1], places.targets)
    said = [tokens.numbers.index(int(i)) for i in places.targets[places.numbers.flatten()]]
    step = 10 if tokens.per_number == 3 else 1000
    values = torch.tensor(said).reshape(number, 4, tokens.per_number)
    numbers = sum(values[..., j] * step ** (tokens.per_number - 1 - j) for j in range(tokens.per_number))
    assert torch.equal(torch.as_tensor(numbers), (made.boxes * 1000).round().long().clamp(max=999))
    judged = places.targets[places.points]
    for k in range(text.num_points):
        yes, no = tokens.candidates(k)
        assert torch.equal(judged[:, k], torch.where(made.labels[:, k] > 0, yes, no))
    assert int(places.is_point.sum()) == number * text.num_points
    # the rest is words, brackets, separators and ends of turns
    assert len(places.rows) == int((chat.labels[1] >= 0).sum())


def test_rows_that_are_no_such_dialogue() -> None:
    prompts = prompts_for(TOKENS)
    tokens = spot_tokens(prompts, TOKENS)
    chat = prompts.turns([exchange_turns(TOKENS, exchange())])
    for number in (0, 2):
        with pytest.raises(ValueError, match="answers, got 2"):
            find_places(chat.labels[0], number, TOKENS, tokens)
    with pytest.raises(ValueError, match="16 judgements"):
        find_places(chat.labels[0], 1, SpotFormat(yes="<Yes>", no="<No>", separator="", grid=4), tokens)
    with pytest.raises(ValueError, match="answers, got 0"):
        find_places(torch.full((9,), -100), 0, TOKENS, tokens)


def test_the_length_of_a_dialogue() -> None:
    prompts = prompts_for(TOKENS)
    for number in (0, 1, 2):
        chat = prompts.turns([exchange_turns(TOKENS, exchange(number=number))])
        assert dialogue_length(prompts, TOKENS, number) == chat.input_ids.shape[1]
    assert dialogue_length(prompts, TOKENS, 1, 9) == dialogue_length(prompts, TOKENS, 1) + 5


# ---------------------------------------------------------------- gradients


def signals_of_leaf(number: int = 1) -> tuple[Tensor, Any, Any, Exchange]:
    prompts = prompts_for(TOKENS)
    tokens = spot_tokens(prompts, TOKENS)
    made = exchange(number=number, generator=torch.Generator().manual_seed(4))
    chat = prompts.turns([exchange_turns(TOKENS, made)])
    places = find_places(chat.labels[0], number, TOKENS, tokens)
    maker = torch.Generator().manual_seed(0)
    logits = torch.randn(len(places.rows), len(prompts.tokenizer), generator=maker, dtype=torch.float64)
    return logits.requires_grad_(), places, tokens, made


@pytest.mark.parametrize(
    ("term", "numbers", "judged"),
    [
        ("loss_bridge", True, False),
        ("loss_box", True, False),
        ("loss_class", False, True),
        ("loss_text", True, True),
    ],
)
def test_what_each_loss_reaches(term: str, numbers: bool, judged: bool) -> None:
    logits, places, tokens, made = signals_of_leaf()
    signals = read_signals(logits, places, TOKENS, tokens)
    loss = SPOTLoss()
    alphas = visible_alphas([True] * 3)
    asked = loss.bridge.plan(box_centre(made.boxes).expand(3, 2), alphas)[1]
    found = loss([signals], [FrameTruth(made.boxes, made.labels, (asked,))], num_frames=3)
    (gradient,) = torch.autograd.grad(found[term], logits)
    at_numbers, at_points = gradient[places.numbers.flatten()], gradient[places.points.flatten()]
    assert bool((at_numbers != 0).any()) == numbers
    assert bool((at_points != 0).any()) == judged
    if term == "loss_text":
        return
    columns = list(tokens.numbers) if numbers else [*tokens.first]
    reached = gradient.abs().sum(0).nonzero()[:, 0].tolist()
    assert sorted(reached) == sorted(set(columns))
    rows = gradient.abs().sum(1).nonzero()[:, 0].tolist()
    assert rows == sorted((places.numbers if numbers else places.points).flatten().tolist())


def test_points_are_the_grid_of_the_soft_box() -> None:
    logits, places, tokens, _ = signals_of_leaf(2)
    signals = read_signals(logits, places, TOKENS, tokens)
    assert signals.boxes.shape == (2, 4)
    assert signals.z.shape == (2, 25)
    assert torch.equal(signals.points, TOKENS.points(signals.boxes))
    assert signals.token_losses.shape == signals.is_point.shape == (len(places.rows),)


def test_a_model_is_read_at_the_supervised_places_alone() -> None:
    model = small_speaker(TOKENS)
    mllm = model.mllm
    tokens = spot_tokens(mllm.prompts, TOKENS)
    made = [exchange(number=n, generator=torch.Generator().manual_seed(n)) for n in (1, 0)]
    chat = mllm.prompts.turns([exchange_turns(TOKENS, one) for one in made])
    with torch.no_grad():
        vision = torch.randn(2, 4, mllm.hidden_size)
        output = mllm.forward_chat(chat, vision, with_logits=True, with_loss=True)
        for row, one in enumerate(made):
            found = frame_signals(mllm.logits, output.hidden, chat, one, TOKENS, tokens, row=row)
            assert output.row_loss is not None
            assert output.logits is not None
            assert float(found.token_losses.sum()) == pytest.approx(float(output.row_loss[row]), rel=1e-4)
            places = find_places(chat.labels[row], len(one.boxes), TOKENS, tokens)
            whole = read_signals(output.logits[row, places.rows], places, TOKENS, tokens)
            assert torch.allclose(found.boxes, whole.boxes, atol=1e-5)
            assert torch.allclose(found.z, whole.z, atol=1e-4)
