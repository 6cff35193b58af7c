"""What is scripted is heard by everything that asks a model in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from refstream.models.mllm.chat import Turn
from refstream.models.mllm.chat_tokens import token_piece
from refstream.testing import moving_square_video, say, small_model

FRAMES, _ = moving_square_video(2)


@pytest.fixture
def heard() -> list[tuple[str, Tensor]]:
    return []


@pytest.fixture
def mllm(heard) -> Any:
    torch.manual_seed(0)
    mllm: Any = small_model(words="the red square").mllm

    def script(dialogue: str, seen: Tensor) -> str:
        heard.append((dialogue, seen))
        return f"[{dialogue.count('what')},{len(seen)}]"

    say(mllm, script)
    return mllm


def asked(mllm: Any, words: str, t: int = 0) -> tuple[Any, Tensor]:
    tokens = mllm.encode_images(mllm.preprocess([FRAMES[t].image]))
    return mllm.prompts.turns([[Turn(words, None, images=1)]]), tokens


def test_generation_hears_it(mllm, heard) -> None:
    chat, tokens = asked(mllm, "what is it")
    assert mllm.generate(chat, tokens).text == "[1,4]<|im_end|>"
    assert heard[0][0] == mllm.tokenizer.decode(chat.input_ids[0])
    assert torch.equal(heard[0][1], tokens[0])


def test_it_is_called_once_per_dialogue_and_frame(mllm, heard) -> None:
    for t, words in [(0, "what"), (0, "who"), (1, "what"), (0, "what")]:
        mllm.generate(*asked(mllm, words, t))
    assert len(heard) == 3


def test_a_longer_answer_is_cut(mllm) -> None:
    assert mllm.generate(*asked(mllm, "what"), max_new_tokens=3).text == "[1,"


def answer_in_pieces(mllm: Any, pieces: list[Any], sizes: list[int], filling: int) -> list[int]:
    """The next words after each piece, with tokens in between that are masked."""
    cache, mask, found = mllm.new_cache(), torch.zeros(1, 0, dtype=torch.int64), []
    for piece, size in zip(pieces, sizes, strict=True):
        embeds = torch.cat((piece, torch.zeros(1, filling, piece.shape[-1])), 1)
        mask = torch.cat((mask, torch.ones(1, size).long(), torch.zeros(1, filling).long()), 1)
        states = mllm.language_model()(
            inputs_embeds=embeds, attention_mask=mask, past_key_values=cache, use_cache=True
        ).last_hidden_state
        found.append(int(mllm.logits(states[0, size - 1]).argmax()))
    return found


@pytest.mark.parametrize("filling", [0, 3])
def test_pieces_in_a_cache_say_the_same(mllm, heard, filling) -> None:
    chat, tokens = asked(mllm, "what")
    whole = mllm.embed(chat, tokens)
    expected = mllm.generate(chat, tokens).ids.tolist()
    words = [mllm.embed(token_piece([one]), None) for one in expected[:-1]]
    pieces = [whole[:, :5], whole[:, 5:], *words]
    found = answer_in_pieces(mllm, pieces, [one.shape[1] for one in pieces], filling)
    assert found[1:] == expected
    assert len(heard) == 1


def test_a_second_turn_sees_the_first(mllm, heard) -> None:
    turns = [Turn("what", "[1,4]", images=1), Turn("what else", None)]
    _, tokens = asked(mllm, "")
    assert mllm.generate(mllm.prompts.turns([turns]), tokens).text == "[2,4]<|im_end|>"
    assert len(heard) == 2


def test_logits_are_sure(mllm) -> None:
    chat, tokens = asked(mllm, "what")
    output = mllm.forward_chat(chat, tokens, with_logits=True)
    p = output.logits[0, -1].softmax(-1)
    assert float(p.max()) > 0.99
    assert mllm.tokenizer.decode([int(p.argmax())]) == "["
