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


def test_what_is_forgotten_was_never_said(mllm, image) -> None:
    """Rows forget as much as they like; images, places and lengths stay right."""
    talk = ParallelDialogues(mllm, 3)
    talk.append([opened(mllm, text) for text in TEXTS], [image] * 3)
    before = talk.append([token_piece([5, 6]), token_piece([5]), token_piece([5])])
    states = talk.extend([token_piece([7, 8, 9, 10]), token_piece([7, 8]), None])
    assert [tuple(one.shape) for one in states] == [(4, 32), (2, 32), (0, 32)]
    talk.forget([3, 1, 0])
    third = talk.append([None, None, token_piece([11])])
    torch.testing.assert_close(third[0], states[0][0], rtol=0, atol=0)
    torch.testing.assert_close(third[1], states[1][0], rtol=0, atol=0)
    fourth = talk.append([token_piece([12, 13]), None, token_piece([12])])
    for row, ids in enumerate([[5, 6, 7, 12, 13], [5, 7], [5, 11, 12]]):
        alone = Dialogue(mllm)
        alone.append(opened(mllm, TEXTS[row]), image, segment="round")
        expected = alone.append(token_piece(ids))[0, -1]
        torch.testing.assert_close(fourth[row], expected, rtol=0, atol=1e-10)
        assert talk.lengths[row] == alone.num_tokens
    assert not torch.equal(before[2], fourth[2])


def test_the_cache_is_cut_back_to_what_the_longest_row_keeps(mllm, image) -> None:
    talk = ParallelDialogues(mllm, 2)
    talk.append([opened(mllm, TEXTS[0])] * 2, [image] * 2)
    width = talk._cache.get_seq_length()
    talk.append([token_piece([5, 6, 7, 8]), token_piece([5, 6])])
    talk.forget([1, 0])
    assert talk._cache.get_seq_length() == talk._seen.shape[1] == width + 3
    talk.forget([2, 1])
    assert talk._cache.get_seq_length() == talk._seen.shape[1] == width + 1


def test_what_waits_goes_with_the_next_piece(mllm, image) -> None:
    talk = ParallelDialogues(mllm, 2)
    talk.defer([token_piece([3, 4]), None])
    talk.append([opened(mllm, TEXTS[0]), opened(mllm, TEXTS[1])], [image] * 2)
    talk.defer([token_piece([5, 6]), token_piece([5])])
    talk.defer([token_piece([7]), None])
    passes = talk.passes
    states = talk.extend([token_piece([8, 9]), None])
    assert (talk.passes, len(states[0]), len(states[1])) == (passes + 1, 2, 0)
    last = talk.append([None, token_piece([8])])
    for row, pieces in enumerate([[[3, 4], None, [5, 6, 7, 8, 9]], [None, [5, 8]]]):
        alone = Dialogue(mllm)
        for ids in pieces:
            piece = opened(mllm, TEXTS[row]) if ids is None else token_piece(ids)
            state = alone.append(piece, image if ids is None else None, segment="round")[0, -1]
        torch.testing.assert_close(last[row], state, rtol=0, atol=1e-10)
        assert talk.lengths[row] == alone.num_tokens


def test_what_cannot_be_forgotten(mllm, image) -> None:
    talk = ParallelDialogues(mllm, 2)
    with pytest.raises(ValueError, match="can forget 0 tokens"):
        talk.forget([1, 0])
    seen = opened(mllm, "x")
    behind = int(seen.input_ids.shape[1]) - 1 - int(seen.image_positions[0].nonzero()[-1])
    talk.append([seen, token_piece([5, 6])], [image, None])
    with pytest.raises(ValueError, match=f"dialogue 0 can forget {behind} tokens"):
        talk.forget([behind + 1, 0])  # the next one belongs to the picture
    with pytest.raises(ValueError, match="dialogue 1 can forget 1 tokens"):
        talk.forget([0, 2])  # nothing would be left of the piece
    with pytest.raises(ValueError, match="as many counts"):
        talk.forget([1])
    talk.defer([None, token_piece([7])])
    with pytest.raises(ValueError, match="if none wait"):
        talk.forget([0, 1])
