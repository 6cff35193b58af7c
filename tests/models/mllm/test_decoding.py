"""Answers decoded into a running dialogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from refstream.models.mllm import InternVL, Turn
from refstream.models.mllm.decoding import decide, decode_constrained, decode_free
from refstream.models.mllm.dialogue import Dialogue
from refstream.models.mllm.tokens import token_id
from refstream.models.mllm.window import DialogueWindow
from tests.models.mllm.toys import STATES, frame_tokens, stream_turns, toy_mllm

TURN = Turn("tell me when\n<0s-1s>", images=1)


@pytest.fixture
def mllm() -> InternVL:
    return toy_mllm()


def state_ids(mllm: InternVL) -> list[int]:
    return [token_id(mllm.tokenizer, state) for state in STATES]


def asked(mllm: InternVL, tokens: Tensor, window: DialogueWindow | None = None) -> tuple[Dialogue, Tensor]:
    dialogue = Dialogue(mllm, window)
    dialogue.add(mllm.prompts.opening(), segment="system")
    opening = mllm.prompts.turn_opening(TURN, first=True)
    return dialogue, dialogue.append(opening, tokens, segment="round")


def script(monkeypatch: pytest.MonkeyPatch, mllm: InternVL, tokens: Sequence[int]) -> None:
    """Make the model want these tokens, one per step."""
    waiting = list(tokens)

    def logits(hidden: Tensor) -> Tensor:
        scores = torch.zeros(len(mllm.tokenizer))
        scores[waiting.pop(0)] = 5.0
        return scores

    monkeypatch.setattr(mllm, "logits", logits)


def fed(dialogue: Dialogue) -> str:
    ids = torch.cat([p.chat.input_ids[0] for s in dialogue.segments for p in s.pieces])
    return dialogue.mllm.prompts.tokenizer.decode(ids, skip_special_tokens=False)


@torch.no_grad()
def test_probabilities_are_those_of_one_pass(mllm: InternVL) -> None:
    tokens, ids = frame_tokens(mllm, 1), state_ids(mllm)
    chat = mllm.prompts.turns([[TURN]])
    logits = mllm.forward_chat(chat, tokens, with_logits=True).logits[0, -1]
    everything = logits.softmax(0)[ids]
    dialogue, hidden = asked(mllm, tokens)
    decision = decide(dialogue, hidden, ids)
    assert decision.ids == tuple(ids)
    torch.testing.assert_close(decision.probabilities, everything / everything.sum())
    assert decision.mass == pytest.approx(float(everything.sum()), rel=1e-4)
    assert decide(dialogue, hidden, range(len(logits))).mass == pytest.approx(1, rel=1e-5)
    reply = decode_constrained(dialogue, hidden, ids, final=ids)
    assert reply.first == ids[int(everything.argmax())]
    assert (reply.ids, reply.text, reply.finished) == ((reply.first,), "", True)
    assert torch.equal(reply.decision.probabilities, decision.probabilities)


@torch.no_grad()
@pytest.mark.parametrize("choice", [0, 1, 2])
def test_a_reply_is_in_the_dialogue_as_in_training(mllm: InternVL, choice: int) -> None:
    turns, tokens, ids = stream_turns(2), frame_tokens(mllm, 2), state_ids(mllm)
    dialogue, hidden = asked(mllm, tokens[:1])
    length = dialogue.num_tokens
    pick: Callable[[Tensor], int] = lambda probabilities: choice  # noqa: E731
    reply = decode_constrained(dialogue, hidden, ids, pick=pick, final=ids[:2], max_new_tokens=5)
    assert reply.first == ids[choice] == reply.ids[0]
    assert len(reply.ids) == (1 if choice < 2 else 5)
    assert not set(reply.ids[1:]) & {*ids, mllm.prompts.ids.image_context, mllm.prompts.ids.turn_start}
    assert dialogue.num_tokens == length + len(reply.ids) + 1
    hidden = dialogue.append(mllm.prompts.turn_opening(turns[1], first=False), tokens[1:], segment="round")
    # the same tokens at once
    first = mllm.prompts.turns([[TURN]])
    rest = mllm.prompts.turn_opening(turns[1], first=False).input_ids[0].tolist()
    whole = [*first.input_ids[0].tolist(), *reply.ids, mllm.prompts.ids.turn_end, *rest]
    embeds = mllm.word_embeddings(torch.tensor([whole]))
    embeds[torch.tensor([whole]) == mllm.prompts.ids.image_context] = tokens.flatten(0, 1)
    expected = mllm.model.model.language_model(inputs_embeds=embeds).last_hidden_state[:, -1]
    torch.testing.assert_close(hidden[:, -1], expected, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_greedy_equals_generate(mllm: InternVL) -> None:
    tokens = frame_tokens(mllm, 1)
    chat = mllm.prompts.turns([[TURN]])
    ids = mllm.generate(chat, tokens, max_new_tokens=12).ids.tolist()
    dialogue, hidden = asked(mllm, tokens)
    before = dialogue.snapshot()
    free = decode_free(dialogue, hidden, max_new_tokens=12)
    assert list(free.ids) == [token for token in ids if token not in mllm.prompts.stop_ids]
    assert len(set(ids)) > 2
    assert free.text == mllm.tokenizer.decode(free.ids)
    assert (free.first, free.decision) == (None, None)
    # the same after the answer was undone, the first token given
    dialogue.crop(before)
    again = decode_constrained(dialogue, hidden, ids[:1], max_new_tokens=12)
    assert again.ids[0] == ids[0]
    upto = next((at for at, token in enumerate(ids[1:], 1) if token == ids[0]), len(ids))
    assert list(again.ids[:upto]) == ids[:upto]


@torch.no_grad()
def test_text_end_and_limit(mllm: InternVL, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, ids = frame_tokens(mllm, 1), state_ids(mllm)
    words = mllm.tokenizer(" it is now", add_special_tokens=False).input_ids
    end = mllm.prompts.ids.turn_end
    assert len(words) == 3
    for limit, finished, said in ((9, True, 3), (4, True, 3), (3, False, 2), (1, False, 0)):
        dialogue, hidden = asked(mllm, tokens)
        script(monkeypatch, mllm, [ids[2], *words, end])
        reply = decode_constrained(dialogue, hidden, ids, final=ids[:2], max_new_tokens=limit)
        assert reply.finished is finished
        assert reply.ids == (ids[2], *words[:said])
        assert reply.text == "it is now"[: [0, 2, 5, 9][said]]
        answer = f"<Response>{' it is now'[: [0, 3, 6, 10][said]]}<|im_end|>"
        assert fed(dialogue).endswith(f"<|im_start|>assistant\n{answer}")
        assert reply.decision.probabilities.argmax() == 2
    dialogue, hidden = asked(mllm, tokens)
    script(monkeypatch, mllm, [end])
    assert decode_free(dialogue, hidden).ids == ()
    assert fed(dialogue).endswith("assistant\n<|im_end|>")


@torch.no_grad()
def test_markers_and_candidates_never_come_later(mllm: InternVL, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, special = state_ids(mllm), mllm.prompts.ids
    dialogue, hidden = asked(mllm, frame_tokens(mllm, 1))
    wanted = [ids[2], *ids, special.image_context, special.image_start, special.turn_start, special.turn_end]
    script(monkeypatch, mllm, wanted)
    reply = decode_constrained(dialogue, hidden, ids, max_new_tokens=20)
    assert len(reply.ids) == 1 + 6
    assert not set(reply.ids[1:]) & set(wanted)
    assert reply.finished


@torch.no_grad()
def test_a_window_bounds_the_answer(mllm: InternVL, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, tokens = state_ids(mllm), frame_tokens(mllm, 1)
    used = asked(mllm, tokens)[0].num_tokens
    dialogue, hidden = asked(mllm, tokens, DialogueWindow(max_tokens=used + 4, reserve=4))
    script(monkeypatch, mllm, [ids[2]] + [7] * 10)
    reply = decode_constrained(dialogue, hidden, ids, max_new_tokens=50)
    assert (len(reply.ids), reply.finished, dialogue.room) == (3, False, 0)
    full, hidden = asked(mllm, tokens, DialogueWindow(max_tokens=used + 1, reserve=1))
    with pytest.raises(ValueError, match="no room for an answer"):
        decode_free(full, hidden)


def test_wrong_use_is_explained(mllm: InternVL) -> None:
    dialogue, hidden = asked(mllm, frame_tokens(mllm, 1))
    with pytest.raises(ValueError, match="different candidate"):
        decide(dialogue, hidden, [])
    with pytest.raises(ValueError, match="different candidate"):
        decode_constrained(dialogue, hidden, [3, 3])
    with pytest.raises(ValueError, match="index below 2, got 2"):
        decode_constrained(dialogue, hidden, [3, 4], pick=lambda probabilities: 2)
    with pytest.raises(ValueError, match="at least 1"):
        decode_free(dialogue, hidden, max_new_tokens=0)
    with pytest.raises(ValueError, match="hidden must be"):
        decide(dialogue, hidden[:, :0], [3])
    plain, states = asked(toy_mllm(template="phi3_chat"), frame_tokens(mllm, 1))
    with pytest.raises(ValueError, match="end-of-turn token"):
        decode_free(plain, states)
