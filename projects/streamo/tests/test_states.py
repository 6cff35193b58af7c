"""The state tokens: one id each, safe through saving, stated first values, replies read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from refstream_projects.streamo.states import (
    RELEASE_TOKENS,
    STATE_TOKENS,
    STATES,
    StateIds,
    check_prompts,
    initialise_states,
    parse_reply,
    state_ids,
)

import refstream
from refstream.errors import UserError
from refstream.models.mllm.chat import Turn
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.mllm.tokens import add_special_tokens
from refstream.testing import small_model

from .models import small_speaker


def test_every_state_is_one_token_that_survives_saving_and_decoding(tmp_path: Path) -> None:
    model = small_speaker()
    ids = state_ids(model.mllm.tokenizer)
    assert len(set(ids.all)) == 3
    assert [ids.name(at) for at in ids.all] == list(STATES)
    again = refstream.load(model.save(tmp_path / "m"))
    assert again.segmenter is None
    assert state_ids(again.mllm.tokenizer) == ids
    check_prompts(again.mllm.prompts)
    said = "<Response> the light turns red"
    chat = again.mllm.prompts.turns([[Turn("tell me", said, 1)]])
    answer = chat.labels[chat.labels >= 0].tolist()
    assert answer[0] == ids.response
    assert again.mllm.tokenizer.decode(answer) == said + "<|im_end|>"
    weights = [m.mllm.word_embeddings.weight[list(ids.all)] for m in (model, again)]
    assert torch.equal(*weights)


def test_what_a_user_types_is_no_state() -> None:
    prompts = small_speaker().mllm.prompts
    ids = state_ids(prompts.tokenizer)
    chat = prompts.turns([[Turn("say <Response> now", "<Silence>", 0)]])
    assert not set(chat.input_ids[chat.labels < 0].tolist()) & set(ids.all)


def test_a_tokenizer_without_states_is_refused() -> None:
    tokenizer = build_tiny_tokenizer(["<Silence>"])
    with pytest.raises(UserError, match="added_tokens"):
        state_ids(tokenizer)
    add_special_tokens(tokenizer, STATE_TOKENS[:2])
    with pytest.raises(UserError, match=r"\['<Response>'\]"):
        state_ids(tokenizer)
    with pytest.raises(UserError, match="answer_tokens"):
        check_prompts(small_model().mllm.prompts)


def test_equal_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="different"):
        StateIds(4, 5, 4)


def test_mean_is_the_mean_of_all_other_tokens() -> None:
    mllm = small_speaker().mllm
    ids = list(state_ids(mllm.tokenizer).all)
    weights = [module.weight.detach().clone() for module in mllm.vocabulary_modules()]
    initialise_states(mllm, "mean")
    for before, module in zip(weights, mllm.vocabulary_modules(), strict=True):
        others = [i for i in range(len(mllm.tokenizer)) if i not in ids]
        expected = before[others].mean(0)
        torch.testing.assert_close(module.weight[ids], expected.expand(3, -1))
        assert torch.equal(module.weight[others], before[others])


def test_words_are_the_mean_of_what_spells_them() -> None:
    mllm = small_speaker().mllm
    ids = state_ids(mllm.tokenizer)
    before = mllm.word_embeddings.weight.detach().clone()
    initialise_states(mllm, "words")
    for at, word in zip(ids.all, STATES, strict=True):
        pieces = mllm.tokenizer(word, add_special_tokens=False)["input_ids"]
        assert mllm.tokenizer.decode(pieces) == word
        torch.testing.assert_close(mllm.word_embeddings.weight[at], before[pieces].mean(0))


def test_padding_leaves_them_and_other_rules_do_not_exist() -> None:
    mllm = small_speaker().mllm
    before = mllm.word_embeddings.weight.detach().clone()
    initialise_states(mllm, "padding")
    assert torch.equal(mllm.word_embeddings.weight, before)
    with pytest.raises(ValueError, match="initialise must be"):
        initialise_states(mllm, "zero")  # type: ignore[arg-type]


@pytest.mark.parametrize("tokens", [STATE_TOKENS, RELEASE_TOKENS])
def test_replies(tokens: tuple[str, str, str]) -> None:
    silence, standby, response = tokens
    assert parse_reply(f" {silence}\n") == ("silence", "")
    assert parse_reply(standby) == ("standby", "")
    assert parse_reply(f"{response} it is red. ") == ("response", "it is red.")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "it is red",
        "it is red <Response>",
        "<Silence> it is red",
        "<Response>",
        "<Response> red <Silence>",
    ],
)
def test_malformed_replies_have_no_state_and_lose_nothing(text: str) -> None:
    assert parse_reply(text) == (None, text)
