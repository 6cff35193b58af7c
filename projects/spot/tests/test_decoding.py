"""Guess and check says what a token per pass says, in fewer passes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects.spot import decoding_cost
from refstream_projects.spot.decoding import Judged, Spoken, decode
from refstream_projects.spot.dialogue import Exchange, exchange_turns
from refstream_projects.spot.parallel import ParallelDialogues
from refstream_projects.spot.reader import SpotReader
from refstream_projects.spot.signals import SpotTokens, answer_ids, spot_tokens
from refstream_projects.spot.text import SpotFormat
from torch import Tensor

from refstream.errors import UserError
from refstream.models.mllm.chat import Turn
from refstream.models.mllm.chat_tokens import token_piece
from refstream.models.mllm.decoding import decode_free
from refstream.models.mllm.dialogue import Dialogue
from refstream.models.mllm.qwen_vl import QwenVL
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.mllm.tokens import ADDED_TOKENS

from .composites import JUDGEMENTS, KEYS, TEXT, composite, moving

SPACED = SpotFormat(**dict(KEYS, separator=" ; "))
QUESTIONS = ["the red square", "where is the blue square now", "x"]
K = TEXT.num_points
AHEAD = [None, 0, 1, 3]


@pytest.fixture(scope="module")
def mllm() -> Any:
    """Random weights, made restless: what is said depends on all that was said before."""
    mllm = composite().mllm
    yes, no = spot_tokens(mllm.prompts, TEXT).first
    with torch.no_grad():
        for name, weight in mllm.language_model().layers.named_parameters():
            if weight.ndim == 2:
                weight.mul_(16 if "o_proj" in name else 4)
        words, head = mllm.word_embeddings.weight, mllm.model.lm_head.weight
        words[no] = words[yes] + 0.3 * words[no]
        head[no] = -head[yes]
    return mllm


@pytest.fixture(scope="module")
def image(mllm: Any) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(1, 4, mllm.hidden_size, dtype=torch.float64)


def opened(mllm: Any, row: int) -> Any:
    return mllm.prompts.turn_opening(Turn(QUESTIONS[row], None, 1), first=True)


def judged_alone(mllm: Any, image: Tensor, row: int, tokens: SpotTokens) -> tuple[list[int], Tensor, Tensor]:
    """Words, probabilities, and the state behind a closed turn and a new question; a token per pass."""
    dialogue = Dialogue(mllm)
    state = dialogue.append(opened(mllm, row), image, segment="round")[0, -1]
    words, heard = [], []
    for k in range(K):
        if k and tokens.separator:
            state = dialogue.append(token_piece(tokens.separator))[0, -1]
        pair = list(tokens.candidates(k))
        heard.append(mllm.logits(state).softmax(-1)[pair])
        words.append(int(heard[-1][0] < heard[-1][1]))
        state = dialogue.append(token_piece([pair[words[-1]]]))[0, -1]
    dialogue.append(mllm.prompts.turn_closing(""))
    return words, torch.stack(heard), dialogue.append(token_piece([5, 6]))[0, -1]


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("text", [TEXT, SPACED], ids=["joined", "spaced"])
def test_judgements_equal_those_of_a_pass_per_token(mllm, image, text, ahead) -> None:
    tokens = spot_tokens(mllm.prompts, text)
    assert bool(tokens.separator) == (text is SPACED)
    alone = [judged_alone(mllm, image, row, tokens) for row in range(3)]
    assert len({tuple(words) for words, *_ in alone}) > 1  # else the rows would go side by side by chance
    maker = torch.Generator().manual_seed(1)
    for _ in range(4):
        talk = ParallelDialogues(mllm, 3)
        answers = {row: Judged(torch.randn(K, generator=maker), tokens, ahead=ahead) for row in range(3)}
        decode(talk, answers, {row: opened(mllm, row) for row in range(3)}, dict.fromkeys(range(3), image))
        assert talk.passes <= K
        talk.defer([mllm.prompts.turn_closing("")] * 3)
        behind = talk.append([token_piece([5, 6])] * 3)
        for row, (words, heard, state) in enumerate(alone):
            assert answers[row].certain == words
            torch.testing.assert_close(answers[row].heard, heard, rtol=0, atol=1e-9)
            # nothing of a wrong guess is left in the dialogue
            torch.testing.assert_close(behind[row], state, rtol=0, atol=1e-9)


def test_positions_on_three_axes() -> None:
    """Qwen2.5-VL counts words behind a picture differently; what is forgotten gives its places back."""
    text = dict(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=8,
        max_position_embeddings=512,
        rope_parameters=dict(rope_type="default", rope_theta=100.0, mrope_section=[2, 1, 1]),
    )
    vision = dict(depth=1, hidden_size=32, intermediate_size=40, num_heads=2, out_hidden_size=32)
    torch.manual_seed(0)
    mllm = QwenVL(
        dict(vision_config=vision, text_config=text, tie_word_embeddings=True),
        build_tiny_tokenizer(QUESTIONS),
        image_size=(56, 84),
        added_tokens=[*ADDED_TOKENS, *JUDGEMENTS],
        prompts=dict(with_context=False, answer_tokens=JUDGEMENTS),
    )
    mllm = mllm.double().eval()
    with torch.no_grad():
        for weight in mllm.parameters():
            weight.normal_(0, 0.3)
    image = torch.randn(1, mllm.num_image_tokens, 32, dtype=torch.float64)
    tokens = spot_tokens(mllm.prompts, TEXT)
    talk = ParallelDialogues(mllm, 3)
    answers = {row: Judged(torch.tensor([1, -1, 1] * 3), tokens) for row in range(3)}
    decode(talk, answers, {row: opened(mllm, row) for row in range(3)}, dict.fromkeys(range(3), image))
    talk.defer([mllm.prompts.turn_closing("")] * 3)
    behind = talk.append([token_piece([5, 6])] * 3)
    for row in range(3):
        words, heard, state = judged_alone(mllm, image, row, tokens)
        assert answers[row].certain == words
        torch.testing.assert_close(answers[row].heard, heard, rtol=0, atol=1e-9)
        torch.testing.assert_close(behind[row], state, rtol=0, atol=1e-9)
    assert talk.passes > 1


@pytest.mark.parametrize(("ahead", "passes"), [(None, 1), (0, K), (1, -(-K // 2)), (3, -(-K // 4))])
def test_right_guesses_need_the_fewest_passes(mllm, image, ahead, passes) -> None:
    tokens = spot_tokens(mllm.prompts, TEXT)
    words, *_ = judged_alone(mllm, image, 1, tokens)
    talk = ParallelDialogues(mllm, 1)
    right = 0.5 - torch.tensor(words, dtype=torch.float64)
    decode(talk, {0: Judged(right, tokens, ahead=ahead)}, {0: opened(mllm, 1)}, {0: image})
    assert talk.passes == passes


class Watched(Judged):
    """Remembers how much was certain after each pass."""

    def hear(self, logits: Tensor) -> int:
        wrong = super().hear(logits)
        self.after = [*getattr(self, "after", []), len(self.certain)]
        return wrong


def test_a_pass_counts_up_to_the_first_wrong_guess_and_its_correction(mllm, image) -> None:
    tokens = spot_tokens(mllm.prompts, TEXT)
    words, *_ = judged_alone(mllm, image, 1, tokens)
    for wrong in range(K):
        guess = 0.5 - torch.tensor(words, dtype=torch.float64)
        guess[wrong] *= -1
        answer = Watched(guess, tokens)
        decode(ParallelDialogues(mllm, 1), {0: answer}, {0: opened(mllm, 1)}, {0: image})
        assert answer.after[0] == wrong + 1
        assert answer.after[-1] == K
        assert answer.after == sorted(set(answer.after))  # each pass makes one more certain at least


def test_another_row_is_left_as_it_is(mllm, image) -> None:
    tokens = spot_tokens(mllm.prompts, TEXT)
    talk = ParallelDialogues(mllm, 3)
    before = talk.append([token_piece([5, 6, 7])] * 3)
    answers = {1: Judged(torch.ones(K), tokens)}
    decode(talk, answers, {1: opened(mllm, 1)}, {1: image})
    assert talk.lengths[0] == talk.lengths[2] == 3
    after = talk.append([token_piece([8]), None, token_piece([8])])
    alone = Dialogue(mllm)
    alone.append(token_piece([5, 6, 7]), segment="round")
    torch.testing.assert_close(after[0], alone.append(token_piece([8]))[0, -1], rtol=0, atol=1e-10)
    torch.testing.assert_close(after[2], after[0], rtol=0, atol=1e-10)
    assert not torch.equal(before[0], after[0])


# ---------------------------------------------------------------- free words


def spoken(mllm: Any, guesses: Sequence[Sequence[int]], most: int, ahead: int | None) -> Spoken:
    ids = mllm.prompts.ids
    forbidden = [ids.image_start, ids.image_context, ids.image_end, ids.turn_start]
    return Spoken(guesses, most, stops=mllm.prompts.stop_ids, forbidden=forbidden, ahead=ahead)


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("most", [1, 2, 24])
def test_free_words_equal_those_of_a_pass_per_token(mllm, image, most, ahead) -> None:
    likely = answer_ids(mllm.prompts, "[300,300,700,700]")
    talk = ParallelDialogues(mllm, 3)
    answers = {row: spoken(mllm, [likely], most, ahead) for row in range(3)}
    decode(talk, answers, {row: opened(mllm, row) for row in range(3)}, dict.fromkeys(range(3), image))
    talk.defer([mllm.prompts.turn_closing("")] * 3)
    behind = talk.append([token_piece([5, 6])] * 3)
    for row in range(3):
        alone = Dialogue(mllm)
        state = alone.append(opened(mllm, row), image, segment="round")
        reply = decode_free(alone, state, max_new_tokens=most)
        assert tuple(answers[row].certain) == reply.ids
        expected = alone.append(token_piece([5, 6]))[0, -1]
        torch.testing.assert_close(behind[row], expected, rtol=0, atol=1e-9)
        assert talk.lengths[row] == alone.num_tokens


class Script:
    """Logits that say a list of tokens, wherever an answer is."""

    def __init__(self, tokens: Sequence[int], size: int = 20) -> None:
        self.tokens, self.size, self.passes = [*tokens, 0], size, 0  # 0 ends it

    def __call__(self, answer: Spoken) -> list[int]:
        while not answer.done:
            start = len(answer.certain)
            fed = answer.next_tokens(10**6)
            places = answer.reading_places(max(1, len(fed)))
            self.passes += 1
            said = [self.tokens[min(start + k, len(self.tokens) - 1)] for k in range(len(places))]
            answer.hear(torch.nn.functional.one_hot(torch.tensor(said), self.size).double())
        return answer.certain


def test_an_answer_that_begins_like_another_guess_goes_on_like_it() -> None:
    script = Script([3, 4, 5, 6])
    assert script(Spoken([[7, 8, 9], [3, 4, 5, 6]], 24, stops={0})) == [3, 4, 5, 6]
    assert script.passes == 2


def test_behind_a_wrong_digit_the_form_of_the_guess_stays() -> None:
    """Digits 5 to 9, a comma 1, the end 0."""
    answer = Spoken([[5, 5, 1, 5, 5, 1, 2]], 24, stops={0}, loose=range(5, 10))
    revise = answer.revised
    guess = [5, 5, 1, 5, 5, 1, 2]
    # out of step behind the first digit: digits are taken, the rest is kept
    assert revise(guess, [6, 1, 7, 7, 1, 7, 1, 9], 0) == [6, 5, 1, 7, 5, 1, 2, 9]
    assert revise(guess, [6, 5, 1, 7, 0, 0, 2], 0) == [6, 5, 1, 7, 5, 0, 2]  # it may end, but not in a number
    assert revise(guess, [2, 3, 4, 5], 0) == [2, 3, 4, 5]  # another form altogether


def test_every_short_answer_is_said_whatever_was_guessed() -> None:
    for length in range(4):
        for said in product((1, 2), repeat=length):
            for guess in ([], [1, 1, 1], [1, 2, 1, 2, 1], [2], [2, 0, 1]):
                for ahead in (None, 0, 1):
                    script = Script(said)
                    assert script(Spoken([guess, [2, 1, 1]], 6, stops={0}, ahead=ahead)) == [*said]
                    assert script.passes <= length + 1
                    cut = Spoken([guess], 2, stops={0}, ahead=ahead)
                    assert Script(said)(cut) == [*said[:2]]


def test_guesses_take_no_more_room_than_there_is(mllm, image) -> None:
    """A refusal fits, where the guessed box would not."""
    limit = int(mllm.config.text_config.max_position_embeddings)
    talk = ParallelDialogues(mllm, 1)
    size = int(opened(mllm, 0).input_ids.shape[1])
    talk.append([token_piece([5] * (limit - size - 4))])
    answer = spoken(mllm, [answer_ids(mllm.prompts, "[300,300,700,700]")], 4, None)
    decode(talk, {0: answer}, {0: opened(mllm, 0)}, {0: image})
    assert len(answer.certain) <= 4
    assert talk.room(0) == 4 - len(answer.certain)


def test_what_cannot_be_decoded(mllm) -> None:
    talk = ParallelDialogues(mllm, 1)
    with pytest.raises(ValueError, match="of the same rows"):
        decode(talk, {}, {})
    with pytest.raises(ValueError, match="of the same rows"):
        decode(talk, {1: spoken(mllm, [[1]], 3, None)}, {1: opened(mllm, 0)})


# ---------------------------------------------------------------- both rounds


@pytest.fixture(scope="module")
def speaker() -> Any:
    """A model that says boxes and judgements of a clip, some of them wrong: it learned for a moment."""
    model, sample = composite().float().train(), moving(6)
    mllm = model.mllm
    said = []
    for t, expression in product(range(6), ("the red square", "the blue square")):
        box = torch.from_numpy(np.roll(sample.masks[:, t], 0 if "red" in expression else 20, axis=2))
        said.append((t, Exchange.of(expression, box if t else box & False, TEXT, jitter=0.1)))
    labels = [torch.tensor([(t + k) % 3 == 0 for k in range(K)]).long()[None] for t, _ in said]
    turns = [
        exchange_turns(
            TEXT, Exchange(e.expression, e.boxes, e.grid_boxes, e.points, one[: len(e.boxes)], e.objects)
        )
        for (_, e), one in zip(said, labels, strict=True)
    ]
    chat = mllm.prompts.turns(turns)
    seen = mllm.encode_images(mllm.preprocess([sample.frames[t] for t, _ in said])).detach()
    optimizer = torch.optim.Adam(mllm.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        mllm.forward_chat(chat, seen, with_loss=True).loss.backward()
        optimizer.step()
    return model.double().eval()


def test_the_reader_says_the_same_in_fewer_passes(speaker) -> None:
    expressions = ["the red square", "the blue square", "a red square"]
    readers = [SpotReader(speaker, text=KEYS, decoding=name) for name in ("guess", "one_by_one")]
    passes, objects, words = [0, 0], 0, set()
    for frame in moving(6).frames:
        with torch.no_grad():
            seen = speaker.vision_tokens([frame])[0]
        both = [reader.read(seen, expressions) for reader in readers]
        passes = [sum(pair) for pair in zip(passes, (reader.passes for reader in readers), strict=True)]
        for a, b in zip(*both, strict=True):
            assert (a.text, a.reply.refused, len(a.objects)) == (b.text, b.reply.refused, len(b.objects))
            objects += len(a.objects)
            for one, other in zip(a.objects, b.objects, strict=True):
                assert torch.equal(one.box, other.box)
                torch.testing.assert_close(one.p_yes, other.p_yes, rtol=0, atol=1e-7)
                torch.testing.assert_close(one.p_no, other.p_no, rtol=0, atol=1e-7)
                words.add(tuple((one.p_yes > one.p_no).tolist()))
    assert objects > 6
    assert len(words) > 1
    assert passes[0] < 0.75 * passes[1]


def test_an_earlier_look_is_the_first_guess_and_changes_no_word(speaker) -> None:
    reader, frames = SpotReader(speaker, text=KEYS), moving(6).frames
    expressions = ["the red square", "the blue square"]
    with torch.no_grad():
        first, second = (speaker.vision_tokens([frames[t]])[0] for t in (3, 4))
    alone = reader.read(second, expressions)
    wrong = reader.read(first, expressions)
    passes = []
    for before in (alone, wrong, [None, wrong[1]]):
        again = reader.read(second, expressions, before)
        passes.append(reader.passes)
        for a, b in zip(again, alone, strict=True):
            assert (a.text, a.ids) == (b.text, b.ids)
            for one, other in zip(a.objects, b.objects, strict=True):
                torch.testing.assert_close(one.p_yes, other.p_yes, rtol=0, atol=1e-7)
    rounds = max(len(one.objects) for one in alone)
    assert rounds
    assert passes[0] == 1 + rounds  # all was guessed: one pass for a round
    with pytest.raises(ValueError, match="as many readings of before"):
        reader.read(second, expressions, alone[:1])


def test_the_cost_is_measured(speaker, tmp_path, monkeypatch) -> None:
    out = tmp_path / "cost.json"
    monkeypatch.setattr(decoding_cost, "load", lambda path, device: speaker)
    decoding_cost.main(
        ["model", "--clips", "1", "--frames", "2", "--rounds", "1", "--expressions", "1", "--out", str(out)]
    )
    result = json.loads(out.read_text())
    rows = {row["decoding"]: row for row in result["rows"]}
    assert set(rows) == set(decoding_cost.WAYS)
    assert result["same_words"] == 1
    assert result["largest_difference"] < 1e-7
    one_by_one = rows["one_by_one"]
    assert one_by_one["per box"] in (None, K)  # a pass per point
    assert rows["guess"]["passes per look"] < one_by_one["passes per look"]
    ratio = one_by_one["passes per look"] / rows["guess"]["passes per look"]
    assert result["ratios"]["passes, 1 expression"] == pytest.approx(ratio, rel=0.01)
    with pytest.raises(UserError, match="needs clips"):
        decoding_cost.decoding_cost(speaker, clips=0)


def test_an_unknown_way_of_decoding(speaker) -> None:
    with pytest.raises(UserError, match="decoding must be one of"):
        SpotReader(speaker, text=KEYS, decoding="fast")
