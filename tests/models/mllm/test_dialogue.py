"""A dialogue over the cache equals the same dialogue run at once."""

from __future__ import annotations

import resource
from typing import Any

import pytest
import torch
from torch import Tensor

from refstream.models.mllm import InternVL, Turn
from refstream.models.mllm.chat_tokens import token_piece
from refstream.models.mllm.dialogue import Dialogue
from refstream.models.mllm.window import DialogueWindow
from refstream.models.protocols import MLLM, DialogueMLLM
from tests.models.mllm.toys import frame_tokens, stream_turns, toy_mllm

EXACT: dict[str, Any] = {"atol": 2e-5, "rtol": 1e-5}


@pytest.fixture
def mllm() -> InternVL:
    return toy_mllm()


def begin(mllm: InternVL, window: DialogueWindow | None = None, **options: Any) -> Dialogue:
    dialogue = Dialogue(mllm, window, **options)
    dialogue.add(mllm.prompts.opening(), segment="system")
    return dialogue


def ask(dialogue: Dialogue, turn: Turn, tokens: Tensor, first: bool = False) -> Tensor:
    """Hidden states of a turn's opening."""
    piece = dialogue.mllm.prompts.turn_opening(turn, first=first)
    return dialogue.append(piece, tokens, segment="question" if "\n" in turn.text else "round")


def last_logits(dialogue: Dialogue, hidden: Tensor) -> Tensor:
    return dialogue.mllm.logits(hidden[0, -1])


def at_once(mllm: InternVL, turns: list[Turn], tokens: Tensor) -> list[Tensor]:
    """Logits where each answer begins, from one pass over the whole dialogue."""
    chat = mllm.prompts.turns([turns])
    logits = mllm.forward_chat(chat, tokens, with_logits=True).logits[0]
    supervised = chat.labels[0] != -100
    starts = (supervised & ~supervised.roll(1)).nonzero()[:, 0]
    assert len(starts) == len(turns)
    return [logits[at - 1] for at in starts]


def test_protocol(mllm: InternVL) -> None:
    assert isinstance(mllm, DialogueMLLM)
    assert isinstance(mllm, MLLM)


@torch.no_grad()
@pytest.mark.parametrize("asked_at", [0, 4])
def test_every_turn_equals_the_whole_at_once(mllm: InternVL, asked_at: int) -> None:
    turns = stream_turns(9, asked_at)
    tokens = frame_tokens(mllm, 9)
    expected = at_once(mllm, turns, tokens)
    dialogue = begin(mllm)
    for number, turn in enumerate(turns):
        hidden = ask(dialogue, turn, tokens[number : number + 1], first=number == 0)
        torch.testing.assert_close(last_logits(dialogue, hidden), expected[number], **EXACT)
        dialogue.add(mllm.prompts.turn_closing(turn.answer))
    whole = mllm.prompts.turns([turns])
    assert dialogue.num_tokens == whole.input_ids.shape[1]
    fed = torch.cat([p.chat.input_ids for s in dialogue.segments for p in s.pieces], dim=1)
    assert torch.equal(fed, whole.input_ids)
    # the toy tells turns and images apart, so that equality means something
    assert (expected[1] - expected[0]).abs().max() > 0.1
    other = at_once(mllm, turns, tokens.flip(0))
    assert (other[0] - expected[0]).abs().max() > 0.1


@torch.no_grad()
def test_hidden_states_of_a_piece_and_waiting_pieces(mllm: InternVL) -> None:
    turns = stream_turns(4)
    tokens = frame_tokens(mllm, 4)
    whole = mllm.forward_chat(mllm.prompts.turns([turns]), tokens).hidden
    eager, waiting = begin(mllm), begin(mllm)
    hidden = [eager.append(token_piece([]))]
    assert hidden[0].shape == (1, 0, mllm.hidden_size)
    for number, turn in enumerate(turns):
        given = tokens[number : number + 1]
        hidden.append(ask(eager, turn, given, first=number == 0))
        hidden.append(eager.append(mllm.prompts.turn_closing(turn.answer)))
        piece = mllm.prompts.turn_opening(turn, first=number == 0)
        waiting.add(piece, given, segment="round")
        waiting.add(mllm.prompts.turn_closing(turn.answer))
    system = mllm.prompts.opening().input_ids.shape[1]
    torch.testing.assert_close(torch.cat(hidden, dim=1), whole[:, system:], **EXACT)
    assert (waiting.num_cached, waiting.num_tokens) == (0, eager.num_tokens)
    turn = Turn("<4s-5s>", images=1)
    late = frame_tokens(mllm, 1)
    torch.testing.assert_close(ask(waiting, turn, late), ask(eager, turn, late), **EXACT)
    assert waiting.num_cached == eager.num_cached == waiting.num_tokens
    assert waiting.cache.get_seq_length() == waiting.num_tokens


@torch.no_grad()
def test_packed_dialogues_do_not_see_each_other(mllm: InternVL) -> None:
    chats = [mllm.prompts.turns([stream_turns(n)]) for n in (2, 3)]
    tokens = [frame_tokens(mllm, n) for n in (2, 3)]
    embeds = [mllm.embed(*row) for row in zip(chats, tokens, strict=True)]
    positions = [mllm.positions(chat)[0] for chat in chats]
    packed = mllm.extend(torch.cat(embeds, 1), torch.cat(positions, 1))
    alone = [mllm.forward_chat(*row).hidden for row in zip(chats, tokens, strict=True)]
    torch.testing.assert_close(packed, torch.cat(alone, 1), **EXACT)
    where, end = mllm.positions(chats[0], 7)
    assert where.tolist() == [list(range(7, end))]


@torch.no_grad()
def test_undoing_what_was_tentative(mllm: InternVL) -> None:
    turns, tokens = stream_turns(4), frame_tokens(mllm, 4)
    expected = at_once(mllm, turns, tokens)
    dialogue = begin(mllm)
    for number, turn in enumerate(turns):
        hidden = ask(dialogue, turn, tokens[number : number + 1], first=number == 0)
        torch.testing.assert_close(last_logits(dialogue, hidden), expected[number], **EXACT)
        before = dialogue.snapshot()
        length = dialogue.num_tokens
        dialogue.append(mllm.prompts.turn_closing("<Response> it is green"))
        ask(dialogue, turn, tokens[:1])
        dialogue.add(token_piece([1, 2, 3]))
        dialogue.crop(before)
        assert dialogue.num_tokens == length
        dialogue.add(mllm.prompts.turn_closing(turn.answer))
    dialogue.append(token_piece([]))
    assert dialogue.cache.get_seq_length() == dialogue.num_cached == dialogue.num_tokens


@torch.no_grad()
def test_a_snapshot_of_another_branch(mllm: InternVL) -> None:
    start = begin(mllm)
    common = start.snapshot()
    start.append(token_piece([11, 12, 13]))
    branch = start.snapshot()
    start.crop(common)
    start.append(token_piece([21, 22, 23, 24]))
    start.crop(branch)
    fresh = begin(mllm)
    fresh.append(token_piece([11, 12, 13]))
    torch.testing.assert_close(start.append(token_piece([5])), fresh.append(token_piece([5])), **EXACT)
    # back to nothing at all
    empty = Dialogue(mllm)
    nothing = empty.snapshot()
    empty.append(mllm.prompts.opening(system="Look."), segment="system")
    empty.crop(nothing)
    assert empty.num_tokens == 0
    again = empty.append(mllm.prompts.opening(), segment="system")
    assert again.shape[1] == empty.cache.get_seq_length() == mllm.prompts.opening().input_ids.shape[1]


@torch.no_grad()
@pytest.mark.parametrize("inputs_on", [None, "cpu"])
def test_eviction_equals_a_fresh_prefill_of_what_is_kept(mllm: InternVL, inputs_on: str | None) -> None:
    turns, tokens = stream_turns(40), frame_tokens(mllm, 40)
    window = DialogueWindow(max_tokens=260, reserve=20)
    dialogue = begin(mllm, window, inputs_on=inputs_on)
    fed: dict[int, int] = {}
    evictions = 0
    for number, turn in enumerate(turns):
        before = dialogue.evicted
        hidden = ask(dialogue, turn, tokens[number : number + 1], first=number == 0)
        assert dialogue.num_tokens <= window.max_tokens
        fed[id(dialogue.segments[-1].pieces[0])] = number
        if dialogue.evicted > before:
            evictions += 1
            # the survivors by number: the question and the latest rounds, none split
            assert [s.kind for s in dialogue.segments[:2]] == ["system", "question"]
            kept = [fed[id(s.pieces[0])] for s in dialogue.segments[1:]]
            assert kept == [0, *range(number - len(kept) + 2, number + 1)]
            assert all(len(s.pieces) == 2 for s in dialogue.segments[1:-1])
            survivors = [turns[i] for i in kept]
            expected = at_once(mllm, survivors, tokens[kept])
            torch.testing.assert_close(last_logits(dialogue, hidden), expected[-1], **EXACT)
            unevicted = at_once(mllm, turns[: number + 1], tokens[: number + 1]) if number < 16 else None
            if unevicted is not None:
                assert (unevicted[-1] - expected[-1]).abs().max() > 0.01
        dialogue.add(mllm.prompts.turn_closing(turn.answer))
    assert evictions >= 3
    assert dialogue.evicted == len(turns) + 1 - len(dialogue.segments)


@torch.no_grad()
def test_a_snapshot_brings_evicted_rounds_back(mllm: InternVL) -> None:
    turns, tokens = stream_turns(12), frame_tokens(mllm, 12)
    dialogue = begin(mllm, DialogueWindow(max_tokens=200, reserve=30))
    saved, states = None, None
    for number, turn in enumerate(turns):
        if number == 4:
            saved = dialogue.snapshot()
        hidden = ask(dialogue, turn, tokens[number : number + 1], first=number == 0)
        states = hidden if number == 4 else states
        dialogue.add(mllm.prompts.turn_closing(turn.answer))
    assert dialogue.evicted > 0
    dialogue.crop(saved)
    torch.testing.assert_close(ask(dialogue, turns[4], tokens[4:5]), states, **EXACT)


def run_rounds(mllm: InternVL, rounds: int) -> None:
    window = DialogueWindow(max_tokens=160, reserve=10)
    dialogue = begin(mllm, window)
    prompts = mllm.prompts
    first = prompts.turn_opening(Turn("tell me when", images=1), first=True)
    tokens = frame_tokens(mllm, 1)
    dialogue.append(first, tokens, segment="question")
    dialogue.end_turn()
    sinks = dialogue.segments[0].pieces[0], dialogue.segments[1].pieces[0]
    opening = prompts.turn_opening(Turn("<1s-2s>", images=1), first=False)
    length = opening.input_ids.shape[1] + 2
    most = 0
    for number in range(rounds):
        dialogue.append(opening, tokens, segment="round")
        most = max(most, dialogue.num_tokens)
        assert dialogue.cache.get_seq_length() == dialogue.num_tokens <= window.max_tokens
        assert (dialogue.segments[0].pieces[0], dialogue.segments[1].pieces[0]) == sinks
        assert [s.kind for s in dialogue.segments] == ["system", "question"] + ["round"] * (
            len(dialogue.segments) - 2
        )
        assert all(len(segment) == length for segment in dialogue.segments[2:-1])
        dialogue.add(prompts.turn_closing("<Silence>"))
        assert len(dialogue._marks) + len(dialogue._pending) <= 2 * len(dialogue.segments)
        assert dialogue._marks[-1].next_position <= window.max_tokens
        assert dialogue.evicted == number + 3 - len(dialogue.segments)
    assert most > window.max_tokens - window.reserve - length


def test_many_rounds_are_bounded(mllm: InternVL) -> None:
    run_rounds(mllm, 50)


@pytest.mark.slow
def test_ten_thousand_rounds_are_bounded() -> None:
    mllm = toy_mllm(layers=1)
    run_rounds(mllm, 1000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run_rounds(mllm, 10_000)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20_000, f"peak memory grew by {grown} KiB"


def test_wrong_use_is_explained(mllm: InternVL) -> None:
    dialogue = Dialogue(mllm)
    with pytest.raises(ValueError, match="needs a segment"):
        dialogue.add(token_piece([1]))
    two = mllm.prompts.turns([stream_turns(1), stream_turns(2)])
    with pytest.raises(ValueError, match="one row without padding"):
        dialogue.add(two, segment="round")
    opening = mllm.prompts.turn_opening(Turn("a", images=1), first=True)
    with pytest.raises(ValueError, match="places for 4 vision tokens, got 0"):
        dialogue.add(opening, segment="round")
    assert dialogue.segments == ()
    with pytest.raises(ValueError, match=r"segments are 0"):
        begin(mllm).retain([3])
    tight = begin(mllm, DialogueWindow(max_tokens=40, reserve=8))
    with pytest.raises(ValueError, match="40 tokens do not fit into the room"):
        tight.add(token_piece([1] * 40))
    with pytest.raises(ValueError, match="beside the"):
        tight.add(token_piece([1] * 33), segment="round")
    short = begin(toy_mllm(length=32))
    with pytest.raises(ValueError, match="takes 32"):
        short.append(token_piece([1] * 40), segment="round")
    training = toy_mllm().train()
    training.checkpoint_gradients()
    with pytest.raises(RuntimeError, match="eval mode"):
        begin(training).append(token_piece([1]))


@pytest.mark.gpu
@torch.no_grad()
def test_cuda(mllm: InternVL) -> None:
    mllm.to("cuda")
    turns, tokens = stream_turns(20), frame_tokens(mllm, 20).cuda()
    chat = mllm.prompts.turns([turns]).to("cuda")
    expected = mllm.forward_chat(chat, tokens).hidden
    dialogue = begin(mllm, inputs_on="cpu")
    states = [dialogue.append(token_piece([]))]
    for number, turn in enumerate(turns):
        states.append(ask(dialogue, turn, tokens[number : number + 1], first=number == 0))
        states.append(dialogue.append(mllm.prompts.turn_closing(turn.answer)))
    system = mllm.prompts.opening().input_ids.shape[1]
    torch.testing.assert_close(torch.cat(states, 1), expected[:, system:], atol=1e-3, rtol=1e-3)
    assert not dialogue.segments[1].pieces[0].embeds.is_cuda
    mllm.to(torch.bfloat16)
    half = begin(mllm, DialogueWindow(max_tokens=200, reserve=16))
    for number, turn in enumerate(turns):
        hidden = ask(half, turn, tokens[number : number + 1], first=number == 0)
        assert torch.isfinite(mllm.logits(hidden)).all()
        half.end_turn()
    assert half.evicted > 0
