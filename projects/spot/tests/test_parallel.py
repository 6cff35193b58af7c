"""Dialogues side by side say what each says alone."""

from __future__ import annotations

import pytest
import torch
from refstream_projects.spot.parallel import ParallelDialogues

from refstream.models.mllm.chat import Turn
from refstream.models.mllm.chat_tokens import token_piece
from refstream.models.mllm.dialogue import Dialogue

from .composites import composite


@pytest.fixture(scope="module")
def mllm():
    return composite().mllm


@pytest.fixture(scope="module")
def image(mllm):
    torch.manual_seed(0)
    return torch.randn(1, 4, mllm.hidden_size, dtype=torch.float64)


TEXTS = ["the red square", "where is the blue square now", "x"]


def opened(mllm, text: str):
    return mllm.prompts.turn_opening(Turn(text, None, 1), first=True)


def test_rows_of_different_lengths_equal_single_dialogues(mllm, image) -> None:
    talk = ParallelDialogues(mllm, len(TEXTS))
    hidden = talk.append([opened(mllm, text) for text in TEXTS], [image] * len(TEXTS))
    # then tokens for some of the rows, a longer piece for others, and nothing for one
    second = talk.append([token_piece([5, 6, 7]), None, token_piece([8])])
    third = talk.append([None, mllm.prompts.turn_closing("the square"), token_piece([9, 10])])
    pieces = [[[5, 6, 7]], [], [[8], [9, 10]]]
    for row, text in enumerate(TEXTS):
        alone = Dialogue(mllm)
        state = alone.append(opened(mllm, text), image, segment="round")[0, -1]
        torch.testing.assert_close(hidden[row], state, rtol=0, atol=1e-10)
        for number, ids in enumerate(pieces[row]):
            state = alone.append(token_piece(ids))[0, -1]
            if number == 0:
                torch.testing.assert_close(second[row], state, rtol=0, atol=1e-10)
        if row == 1:
            torch.testing.assert_close(second[row], hidden[row], rtol=0, atol=0)  # it was left as it is
            state = alone.append(mllm.prompts.turn_closing("the square"))[0, -1]
        torch.testing.assert_close(third[row], state, rtol=0, atol=1e-10)
        assert talk.lengths[row] == alone.num_tokens


def test_what_cannot_be_fed(mllm, image) -> None:
    with pytest.raises(ValueError, match="at least one dialogue"):
        ParallelDialogues(mllm, 0)
    talk = ParallelDialogues(mllm, 2)
    with pytest.raises(ValueError, match="begins with tokens"):
        talk.append([opened(mllm, "x"), None], [image, None])
    talk.append([opened(mllm, "x")] * 2, [image] * 2)
    with pytest.raises(ValueError, match="begins with tokens"):
        talk.append([None, None])
    with pytest.raises(ValueError, match="as many pieces"):
        talk.append([token_piece([1])])
    with pytest.raises(ValueError, match="the language model takes 512"):
        talk.append([token_piece([1] * 600), None])
