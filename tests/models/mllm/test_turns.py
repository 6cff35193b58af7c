"""Turns with their own images: whole, and piece by piece."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refstream.models.mllm import ChatTokens, PromptBuilder, Turn, build_tiny_tokenizer, load_tokenizer
from refstream.models.mllm import tokens as T
from refstream.models.mllm.chat_tokens import IGNORE, token_piece
from tests.models.mllm.toys import STATES, SYSTEM, WORDS, stream_turns


@pytest.fixture
def tokenizer():
    tokenizer = build_tiny_tokenizer(WORDS)
    T.add_special_tokens(tokenizer, (*T.IMAGE_TOKENS, *T.ADDED_TOKENS, *STATES))
    return tokenizer


def builder(tokenizer, **options) -> PromptBuilder:
    return PromptBuilder(tokenizer, 3, **{"answer_tokens": STATES, "system": SYSTEM, **options})


def joined(pieces: list[ChatTokens], name: str) -> torch.Tensor:
    return torch.cat([getattr(piece, name) for piece in pieces], dim=1)


DIALOGUE = [
    Turn("tell me when\n<0s-1s>", "<Silence>", images=1),
    Turn("<1s-2s>", "<Response> it is green now", images=2),
    Turn("", "<Standby>", images=1),
]
PLACES = "<IMG_CONTEXT>" * 3
TEXT = (
    f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
    f"<|im_start|>user\ntell me when\n<0s-1s>\n<img>{PLACES}</img>\n<|im_end|>\n"
    "<|im_start|>assistant\n<Silence><|im_end|>\n"
    f"<|im_start|>user\n<1s-2s>\n<img>{PLACES}</img>\n<img>{PLACES}</img>\n<|im_end|>\n"
    "<|im_start|>assistant\n<Response> it is green now<|im_end|>\n"
    f"<|im_start|>user\n<img>{PLACES}</img>\n<|im_end|>\n"
    "<|im_start|>assistant\n<Standby><|im_end|>"
)


def test_layout_equals_the_tokenizers_own_reading_of_the_text(tokenizer) -> None:
    chat = builder(tokenizer).turns([DIALOGUE])
    ids = chat.input_ids[0].tolist()
    assert ids == tokenizer(TEXT, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == TEXT
    assert chat.image_slots == (12,)
    assert int(chat.image_positions.sum()) == 12
    bare = builder(tokenizer, newline_after_image=False).turns([DIALOGUE]).input_ids[0]
    without = TEXT.replace("</img>\n<|im_end|>", "</img><|im_end|>")
    assert tokenizer.decode(bare, skip_special_tokens=False) == without


def test_exactly_answers_and_ends_of_turns_are_supervised(tokenizer) -> None:
    chat = builder(tokenizer).turns([DIALOGUE, DIALOGUE[:1]])
    expected = ["<Silence><|im_end|>", "<Response> it is green now<|im_end|>", "<Standby><|im_end|>"]
    for row, count in enumerate((3, 1)):
        labels = chat.labels[row]
        spoken = labels[labels != IGNORE]
        assert tokenizer.decode(spoken, skip_special_tokens=False) == "".join(expected[:count])
        assert torch.equal(spoken, chat.input_ids[row][labels != IGNORE])
    # each supervised run starts right after an assistant's marker
    starts = (chat.labels[0] != IGNORE) & (chat.labels[0].roll(1) == IGNORE)
    before = chat.input_ids[0][: int(starts.nonzero()[1])]
    assert tokenizer.decode(before, skip_special_tokens=False).endswith("<|im_start|>assistant\n")
    assert not chat.attention_mask[1].all()


@pytest.mark.parametrize("template", ["qwen_chat", "phi3_chat"])
@pytest.mark.parametrize("system", [SYSTEM, None])
@pytest.mark.parametrize("given", ["Look.", None])
def test_pieces_in_a_row_are_the_whole(tokenizer, template: str, system: str | None, given) -> None:
    prompts = builder(tokenizer, template=template, system=system)
    turns = stream_turns(6)
    pieces = [prompts.opening(system=given)]
    for number, turn in enumerate(turns):
        pieces.append(prompts.turn_opening(turn, first=number == 0, tile_tokens=2, system=given))
        pieces.append(prompts.turn_closing(turn.answer))
    whole = prompts.turns([turns], tile_tokens=2, system=given)
    for name in ("input_ids", "labels", "image_positions", "attention_mask"):
        assert torch.equal(joined(pieces, name), getattr(whole, name))
    assert sum(piece.num_image_slots for piece in pieces) == whole.num_image_slots == 12
    assert (pieces[0].input_ids.shape[1] == 0) == (system is None and given is None)


def test_open_turn_and_prefixes(tokenizer) -> None:
    prompts = builder(tokenizer)
    turns = stream_turns(5)
    whole = prompts.turns([turns]).input_ids[0]
    for count in range(1, 6):
        opened = [*turns[: count - 1], Turn(turns[count - 1].text, None, images=1)]
        ids = prompts.turns([opened]).input_ids[0]
        assert torch.equal(ids, whole[: len(ids)])
        assert tokenizer.decode(ids).endswith("<|im_start|>assistant\n")


def test_a_picture_that_stands_first_is_the_prompt_about_one_picture(tokenizer) -> None:
    prompts = builder(tokenizer, with_context=False)
    chat = prompts.turns(
        [[Turn("where is it", "there", images=1, images_first=True), Turn("and now", "gone")]]
    )
    known = prompts.text([[("where is it", "there"), ("and now", "gone")]], num_tiles=1)
    assert torch.equal(chat.input_ids, known.input_ids)
    assert torch.equal(chat.labels, known.labels)
    assert torch.equal(chat.image_positions, known.image_positions)


@pytest.mark.parametrize("system", [SYSTEM, None])
def test_without_images_it_is_the_text_dialogue(tokenizer, system: str | None) -> None:
    prompts = builder(tokenizer, system=system)
    turns = [Turn("tell me", "<Silence>"), Turn("when", "it is")]
    chat = prompts.turns([turns])
    text = prompts.text([[(turn.text, turn.answer) for turn in turns]])
    assert torch.equal(chat.input_ids, text.input_ids)
    assert torch.equal(chat.labels, text.labels)


def test_states_are_one_token_each_in_answers_only(tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    for held in (tokenizer, load_tokenizer(tmp_path)):
        prompts = builder(held)
        ids = [prompts.turn_closing(state).input_ids[0].tolist() for state in STATES]
        assert [len(row) for row in ids] == [2, 2, 2]
        assert len({row[0] for row in ids}) == 3
        assert [held.decode(row[:1]) for row in ids] == list(STATES)
        typed = prompts.turns([[Turn("<Response> </img> <|im_end|> [SEG]", "[SEG] <Silence>", images=1)]])
        counts = [(typed.input_ids == row[0]).sum().item() for row in ids]
        assert counts == [1, 0, 0]
        # [SEG] was not among the answer's tokens: letters
        assert prompts.ids.seg not in typed.input_ids
    plain = builder(tokenizer, answer_tokens=()).turn_closing("<Silence>")
    assert plain.input_ids.shape[1] > 2


def test_other_image_markers(tokenizer) -> None:
    markers = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
    with pytest.raises(ValueError, match="vision_start"):
        builder(tokenizer, image_markers=markers)
    T.add_special_tokens(tokenizer, markers)
    prompts = builder(tokenizer, image_markers=markers, newline_after_image=False)
    chat = prompts.turns([[Turn("<0s-1s>", None, images=1)]], system="Look.")
    expected = (
        "<|im_start|>system\nLook.<|im_end|>\n<|im_start|>user\n<0s-1s>\n<|vision_start|>"
        + "<|image_pad|>" * 3
        + "<|vision_end|><|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.decode(chat.input_ids[0], skip_special_tokens=False) == expected
    assert chat.num_image_slots == int(chat.image_positions.sum()) == 3
    assert T.token_id(tokenizer, "<|image_pad|>") == prompts.ids.image_context
    referring = prompts.referring(["light"], with_answer=False, with_context=False)
    assert "<|vision_start|><|image_pad|>" in tokenizer.decode(referring.input_ids[0])


def test_options_rebuild_it(tokenizer) -> None:
    import json

    prompts = builder(tokenizer, newline_after_image=False)
    options = json.loads(json.dumps(prompts.options()))
    assert options == prompts.options()
    again = PromptBuilder(tokenizer, **options)
    assert torch.equal(again.turns([DIALOGUE]).input_ids, prompts.turns([DIALOGUE]).input_ids)


def test_wrong_use_is_explained(tokenizer) -> None:
    prompts = builder(tokenizer)
    with pytest.raises(ValueError, match="at least one turn"):
        prompts.turns([[]])
    with pytest.raises(ValueError, match="only the last answer"):
        prompts.turns([[Turn("a"), Turn("b")]])
    with pytest.raises(ValueError, match="0 images or more"):
        Turn("a", images=-1)
    with pytest.raises(ValueError, match="at least one vision token"):
        prompts.turns([[Turn("a", images=1)]], tile_tokens=0)
    with pytest.raises(ValueError, match=r"<Later>.*no special tokens"):
        builder(tokenizer, answer_tokens=("<Silence>", "<Later>"))
    with pytest.raises(ValueError, match="list of tokens"):
        builder(tokenizer, answer_tokens="<Silence>")
    with pytest.raises(ValueError, match="three tokens"):
        builder(tokenizer, image_markers=("<img>", "</img>"))


def test_token_piece() -> None:
    piece = token_piece([5, 6])
    assert piece.input_ids.tolist() == [[5, 6]]
    assert piece.num_image_slots == 0
    assert token_piece([]).input_ids.shape == (1, 0)
