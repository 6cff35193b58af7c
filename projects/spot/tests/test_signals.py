"""Expected numbers, judgements, and the check that answers are made of the tokens they must be made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from refstream_projects.spot.signals import (
    SpotTokens,
    answer_ids,
    judgements,
    soft_boxes,
    soft_numbers,
    spot_tokens,
)
from refstream_projects.spot.text import LOCATION_TOKENS, SpotFormat

from refstream.errors import UserError

from .speakers import TOKENS, WORDS, changed_tokenizer, prompts_for

DIGITS = SpotTokens(numbers=tuple(range(3, 13)), first=(13, 14), rest=(15, 14), separator=(16,))
QWEN_SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def certain(values: torch.Tensor, size: int = 20) -> torch.Tensor:
    """(..., 3, V) logits that leave no doubt about the digits of whole numbers."""
    digits = torch.stack((values // 100, values // 10 % 10, values % 10), dim=-1)
    return 200.0 * torch.nn.functional.one_hot(digits + 3, size)


def test_a_certain_answer_has_its_own_value() -> None:
    values = torch.arange(1000).reshape(-1, 4)
    assert torch.allclose(soft_boxes(certain(values), DIGITS), values / 1000, atol=1e-6)


def test_an_answer_in_doubt_has_the_expected_value() -> None:
    logits = torch.full((3, 20), -50.0)
    logits[0, 3 + 2], logits[0, 3 + 4] = 1.0, 1.0 + torch.log(torch.tensor(3.0))  # 2 or, thrice as likely, 4
    logits[1, 3:13] = 0.0
    logits[2, 3 + 7] = 0.0
    logits[:, :3] = 100.0  # other tokens do not matter
    expected = (100 * (2 * 0.25 + 4 * 0.75) + 10 * 4.5 + 7) / 1000
    assert float(soft_numbers(logits, DIGITS)) == pytest.approx(expected, rel=1e-5)


def test_locations_are_one_token_per_number() -> None:
    tokens = SpotTokens(tuple(range(10, 1010)), (1, 2), (1, 2))
    assert tokens.per_number == 1
    assert DIGITS.per_number == 3
    logits = torch.full((4, 1, 1100), -200.0)
    for row, (a, b) in enumerate([(0, 0), (500, 502), (999, 999), (10, 20)]):
        logits[row, 0, [10 + a, 10 + b]] = 0.0
    assert soft_boxes(logits, tokens).tolist() == pytest.approx([0.0, 0.501, 0.999, 0.015], abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_signals_are_float32_with_a_gradient(dtype: torch.dtype) -> None:
    logits = torch.randn(2, 4, 3, 20, dtype=dtype, requires_grad=True)
    boxes = soft_boxes(logits, DIGITS)
    assert boxes.shape == (2, 4)
    assert boxes.dtype == torch.float32
    boxes.sum().backward()
    assert logits.grad is not None
    assert bool((logits.grad[..., 3:13] != 0).any())
    assert not bool(logits.grad[..., 13:].any())


def test_judgements_are_differences_of_two_logits() -> None:
    logits = torch.randn(3, 5, 20, generator=torch.Generator().manual_seed(0))
    z = judgements(logits, DIGITS)
    assert torch.allclose(z[:, 0], logits[:, 0, 13] - logits[:, 0, 14])
    assert torch.allclose(z[:, 1:], logits[:, 1:, 15] - logits[:, 1:, 14])
    both = logits[:, 2, [15, 14]].softmax(-1)[:, 0]
    assert torch.allclose(z[:, 2].sigmoid(), both, atol=1e-6)
    assert judgements(torch.zeros(0, 25, 20), DIGITS).shape == (0, 25)


def test_bad_shapes() -> None:
    with pytest.raises(ValueError, match="3, V"):
        soft_numbers(torch.zeros(1, 20), DIGITS)
    with pytest.raises(ValueError, match="4, J"):
        soft_boxes(torch.zeros(3, 3, 20), DIGITS)
    with pytest.raises(ValueError, match="K, V"):
        judgements(torch.zeros(20), DIGITS)


# ---------------------------------------------------------------- tokenizers


@pytest.mark.parametrize(
    ("text", "separated"),
    [
        (SpotFormat(), 0),  # the space belongs to the word
        (SpotFormat(style="internvl"), 0),
        (SpotFormat(separator=","), 1),
        (SpotFormat(separator="\n"), 1),
        (SpotFormat(separator=", "), 1),
        (TOKENS, 0),
        (SpotFormat(coordinates="locations"), 0),
        (SpotFormat(coordinates="locations", style="internvl", yes="<Yes>", no="<No>", separator=" "), 1),
    ],
)
def test_tokens_spell_every_answer(text: SpotFormat, separated: int) -> None:
    prompts = prompts_for(text)
    tokens = spot_tokens(prompts, text)
    labels = torch.randint(0, 2, (25,), generator=torch.Generator().manual_seed(1))
    spelt: list[int] = []
    for k, label in enumerate(labels.tolist()):
        spelt += [*(tokens.separator if k else ()), tokens.candidates(k)[1 - label]]
    assert len(tokens.separator) == separated
    assert answer_ids(prompts, text.say_points(labels)) == [*spelt, prompts.ids.turn_end]
    assert prompts.tokenizer.decode(spelt) == text.say_points(labels)
    words = [prompts.tokenizer.decode([i]) for i in tokens.numbers]
    assert words == (list(LOCATION_TOKENS) if tokens.per_number == 1 else list("0123456789"))


def test_special_tokens_must_be_named() -> None:
    with pytest.raises(UserError, match=r"<Yes>.*added_tokens"):
        spot_tokens(prompts_for(SpotFormat()), TOKENS)
    with pytest.raises(UserError, match=r"1000 such tokens"):
        spot_tokens(prompts_for(SpotFormat()), SpotFormat(coordinates="locations"))


def test_words_in_pieces_are_refused() -> None:
    text = SpotFormat(yes="Yea", no="Nay")
    with pytest.raises(UserError, match=r"'Yea' and 'Nay'.*not one token each"):
        spot_tokens(prompts_for(text), text)


def test_words_that_the_tokenizer_joins_are_refused() -> None:
    """The letters of YesNo are one run: a tokenizer need not take it apart as it was put together."""
    text = SpotFormat(separator="")
    with pytest.raises(UserError, match="not one token each"):
        spot_tokens(prompts_for(text), text)


def splitter(pattern: str) -> Any:
    def change(content: dict[str, Any]) -> None:
        content["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": pattern}

    return change


def test_a_splitter_as_that_of_qwen() -> None:
    """It joins a comma with the word after it, so that only a line or a space may part judgements."""
    for separator, works in ((" ", True), ("\n", True), (",", False)):
        text = SpotFormat(separator=separator)
        prompts = prompts_for(text, changed_tokenizer(WORDS, splitter(QWEN_SPLIT)))
        if works:
            assert len(spot_tokens(prompts, text).numbers) == 10
        else:
            with pytest.raises(UserError, match="another separator"):
                spot_tokens(prompts, text)


def test_joined_digits_are_refused() -> None:
    """As Llama-3's: numbers of up to three digits are tokens of their own."""

    def change(content: dict[str, Any]) -> None:
        splitter(r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]|\s")(content)
        vocabulary = content["model"]["vocab"]
        vocabulary |= {f"{n:03d}": len(vocabulary) + n for n in range(1000)}
        for token in content["added_tokens"]:
            token["id"] += 1000

    prompts = prompts_for(SpotFormat(), changed_tokenizer(WORDS, change))
    with pytest.raises(UserError, match=r"Llama-3.*locations"):
        spot_tokens(prompts, SpotFormat())
    text = SpotFormat(coordinates="locations")
    assert spot_tokens(prompts_for(text, prompts.tokenizer), text).per_number == 1
