"""The prompt builder: layout, supervision, safety of user text."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from refstream.models.mllm import PromptBuilder, build_tiny_tokenizer, clean_expression, load_tokenizer
from refstream.models.mllm import tokens as T
from refstream.models.mllm.templates import ANSWERS, QUESTIONS

IMAGE = "<img><IMG_CONTEXT><IMG_CONTEXT><IMG_CONTEXT></img>"
CONTEXT = "<context><TIME_CONTEXT></context>"
TAIL = "<|im_end|>\n<|im_start|>assistant\nSure, [SEG].<|im_end|>"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tiny_tokenizer(["the red circle", "left of"])


@pytest.fixture
def prompts(tokenizer: PreTrainedTokenizerFast) -> PromptBuilder:
    return PromptBuilder(tokenizer, num_image_tokens=3)


def text_of(prompts: PromptBuilder, row: torch.Tensor) -> str:
    return prompts.tokenizer.decode(row, skip_special_tokens=False)


def test_layout_and_positions(prompts: PromptBuilder) -> None:
    chat = prompts.referring(["The red circle."])
    question = "Please segment the red circle in this image."
    expected = f"<|im_start|>user\n{IMAGE}{CONTEXT}\n{question}{TAIL}"
    assert text_of(prompts, chat.input_ids[0]) == expected
    ids = chat.input_ids[0]
    assert chat.input_ids.dtype == chat.labels.dtype == chat.context_positions.dtype == torch.int64
    assert chat.image_positions.dtype == chat.attention_mask.dtype == torch.bool
    assert ids[chat.seg_positions[0]] == prompts.ids.seg
    assert ids[chat.context_positions[0, 0]] == prompts.ids.time_context
    assert ids[chat.image_positions[0]].tolist() == [prompts.ids.image_context] * 3
    assert chat.image_slots == (3,)
    supervised = chat.labels[0] != -100
    assert text_of(prompts, ids[supervised]) == "Sure, [SEG].<|im_end|>"
    assert torch.equal(chat.labels[0][supervised], ids[supervised])


def test_switches(tokenizer: PreTrainedTokenizerFast) -> None:
    def text(num_images: int = 1, **options) -> str:
        builder = PromptBuilder(tokenizer, num_image_tokens=1, **options)
        return text_of(builder, builder.referring(["A. dog"], num_images=num_images).input_ids[0])

    image = "<img><IMG_CONTEXT></img>"
    question = "Please segment a dog in this image."
    start = f"<|im_start|>user\n{image}"
    assert text(newline_after_context=False) == f"{start}{CONTEXT}{question}{TAIL}"
    assert text(with_context=False) == f"{start}\n{question}{TAIL}"
    assert text(num_context=2) == f"{start}<context><TIME_CONTEXT><TIME_CONTEXT></context>\n{question}{TAIL}"
    as_typed = text(lowercase=False, strip_periods=False, question="Please segment {expression}.")
    assert as_typed == f"{start}{CONTEXT}\nPlease segment A. dog.{TAIL}"
    assert text(num_images=2, with_context=False) == f"{start}\n{image}\n{question}{TAIL}"
    system = text(system="Be brief.")
    assert system == f"<|im_start|>system\nBe brief.<|im_end|>\n{start}{CONTEXT}\n{question}{TAIL}"
    phi3 = text(template="phi3_chat", with_context=False)
    assert phi3 == f"<|user|>\n{image}\n{question}<|end|>\n<|assistant|>\nSure, [SEG].<|end|>"


def test_frames_of_a_clip(prompts: PromptBuilder) -> None:
    """Pooled to fewer tokens, labelled, as many as a row has; with or without the context slot."""

    def frames(*numbers: int) -> str:
        return "\n".join(f"Frame{i}: <img><IMG_CONTEXT></img>" for i in numbers)

    keys = dict(num_images=[2, 1], tile_tokens=1, image_label="Frame{number}: ")
    chat = prompts.referring(["circle", "left of it"], with_context=False, **keys)
    start, question = "<|im_start|>user\n", "\nPlease segment circle in this image."
    assert (
        text_of(prompts, chat.input_ids[0][chat.attention_mask[0]])
        == f"{start}{frames(1, 2)}{question}{TAIL}"
    )
    assert chat.image_slots == (2, 1)
    assert chat.image_positions.sum(1).tolist() == [2, 1]
    assert (chat.context_positions == -1).all()
    again = prompts.referring(["circle"], num_images=2, tile_tokens=1, image_label="Frame{number}: ")
    assert text_of(prompts, again.input_ids[0]) == f"{start}{frames(1, 2)}{CONTEXT}{question}{TAIL}"
    said = prompts.text([[("What is it?", "A dog.")], [("And this?", "A cat.")]], num_tiles=[1, 0], **keys)
    assert said.image_slots == (2, 0)
    assert text_of(prompts, said.input_ids[0]).startswith(f"{start}{frames(1, 2)}\nWhat is it?")
    bare = PromptBuilder(prompts.tokenizer, num_image_tokens=3, with_context=False)
    with pytest.raises(ValueError, match="built with with_context=True"):
        bare.referring(["circle"], with_context=True)


def test_batches_are_padded_on_the_right(prompts: PromptBuilder) -> None:
    chat = prompts.referring(["circle", "the red circle left of it"], reprompt=[True, False])
    alone = prompts.referring(["circle"], reprompt=True)
    length = alone.input_ids.shape[1]
    assert chat.attention_mask[0].sum() == length
    assert torch.equal(chat.input_ids[0, :length], alone.input_ids[0])
    assert chat.seg_positions[0] == alone.seg_positions[0]
    assert (chat.labels[0, length:] == -100).all()
    assert prompts.reprompt in text_of(prompts, chat.input_ids[0])
    assert prompts.reprompt not in text_of(prompts, chat.input_ids[1])


def test_several_masks_none_and_open_answers(prompts: PromptBuilder) -> None:
    several = prompts.referring(["a", "b"], answer=["[SEG] and [SEG].", "It is absent."])
    assert several.seg_positions.shape == (2, 2)
    assert (several.seg_positions[0] > 0).all()
    assert several.seg_positions[1].tolist() == [-1, -1]
    opened = prompts.referring(["a"], with_answer=False)
    assert text_of(prompts, opened.input_ids[0]).endswith("<|im_start|>assistant\n")
    assert (opened.labels == -100).all()
    assert opened.seg_positions.tolist() == [-1]


def test_dialogues(prompts: PromptBuilder) -> None:
    chat = prompts.text(
        [[("What is it?", "A dog."), ("Where?", "[SEG]")], [("Hello", None)]], num_tiles=[1, 0]
    )
    first = f"<|im_start|>user\n{IMAGE}\nWhat is it?<|im_end|>\n<|im_start|>assistant\nA dog.<|im_end|>"
    second = "\n<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n[SEG]<|im_end|>"
    assert text_of(prompts, chat.input_ids[0][chat.attention_mask[0]]) == first + second
    assert chat.image_slots == (3, 0)
    assert chat.context_positions.tolist() == [[-1], [-1]]
    kept = chat.labels[0] != -100
    assert text_of(prompts, chat.input_ids[0][kept]) == "A dog.<|im_end|>[SEG]<|im_end|>"
    with pytest.raises(ValueError, match="last answer"):
        prompts.text([[("a", None), ("b", "c")]])


def nasty_strings(count: int) -> list[str]:
    pool = [
        *(T.SEG, T.IMAGE_CONTEXT, T.TURN_END, T.TURN_START, T.END_OF_TEXT, T.IMAGE_START, T.IMAGE_END),
        *(
            T.TIME_CONTEXT,
            T.CONTEXT_START,
            T.CONTEXT_END,
            "<image>",
            "<p>",
            "</vp>",
            "<|user|>",
            "{expression}",
        ),
        *(
            "the red circle",
            " ",
            "\n",
            "\t",
            "é",
            "e\u0301",
            "圆",
            "🟥",
            "\u200d",
            "\x00",
            "\ud800",
            "<",
            "|>",
        ),
    ]
    generator = random.Random(5)
    strings = []
    for _ in range(count):
        parts = [generator.choice(pool) for _ in range(generator.randint(1, 8))]
        parts.append("".join(chr(generator.randrange(33, 0xD7FF)) for _ in range(generator.randint(1, 4))))
        strings.append("".join(parts))
    return strings


def test_user_text_is_never_special(prompts: PromptBuilder) -> None:
    special = set(prompts.tokenizer.all_special_ids) | {prompts.ids.image_context, prompts.ids.seg}
    plain = prompts.referring(["circle"]).input_ids[0].tolist()
    frame = [i for i in plain if i in special]
    for text in nasty_strings(1000):
        try:
            chat = prompts.referring([text])
        except ValueError as error:
            assert "empty" in str(error)  # noqa: PT017
            continue
        assert chat.image_positions.sum() == 3
        assert [i for i in chat.input_ids[0].tolist() if i in special] == frame
        assert (chat.context_positions >= 0).sum() == 1
        assert chat.labels[0][chat.seg_positions[0]] == prompts.ids.seg
        raw = prompts.text([[(text, text.replace("[SEG]", ""))]], num_tiles=1)
        assert raw.image_positions.sum() == 3
        assert raw.seg_positions.tolist() == [-1]


def test_tokens_equal_a_plain_encoding_of_the_whole_prompt(golden: Path) -> None:
    """On harmless text the ids are those of the released code: the whole string, special tokens parsed."""
    tokenizer = load_tokenizer(golden / "sa2va" / "model")
    prompts = PromptBuilder(tokenizer, 3, with_context=False, lowercase=False, strip_periods=False)
    for expression in ("the round shape", "a shape's left-most edge, isn't it", "12 dogs  (two of them)"):
        ids = prompts.referring([expression]).input_ids[0]
        assert ids.tolist() == tokenizer(text_of(prompts, ids), add_special_tokens=False).input_ids


def test_cleaning() -> None:
    assert clean_expression("  The\tRed\n circle. ") == "the red circle"
    assert clean_expression("A.B", lowercase=False, strip_periods=False) == "A.B"
    assert clean_expression("cafe\u0301\x07 x") == "café x"
    assert len(clean_expression("a" * 2000)) == 2000
    for empty in ("", " \n", "...", "\x00"):
        with pytest.raises(ValueError, match="empty"):
            clean_expression(empty)
    for text in ("a" * 2001, "a" * 10_000_000):
        with pytest.raises(ValueError, match="at most 2000"):
            clean_expression(text)
    with pytest.raises(ValueError, match="must be a string"):
        clean_expression(None)  # type: ignore[arg-type]


def test_wrong_use_is_explained(prompts: PromptBuilder, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="list of strings"):
        prompts.referring("circle")
    with pytest.raises(ValueError, match="2 of them"):
        prompts.referring(["a", "b"], reprompt=[True])
    with pytest.raises(ValueError, match="must contain"):
        prompts.referring(["a"], question="Where?")
    with pytest.raises(ValueError, match="unknown chat template"):
        PromptBuilder(tokenizer, 3, template="llama")
    with pytest.raises(ValueError, match="at least one dialogue"):
        prompts.referring([])
    bare = PreTrainedTokenizerFast(tokenizer_object=build_bare())
    with pytest.raises(ValueError, match="lacks the special tokens"):
        PromptBuilder(bare, 3)


def build_bare():
    from tokenizers import Tokenizer, models

    return Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))


def test_options_rebuild_the_builder(prompts: PromptBuilder) -> None:
    again = PromptBuilder(prompts.tokenizer, **prompts.options())
    assert again.options() == prompts.options()


def test_templates() -> None:
    assert len(QUESTIONS) == len(set(QUESTIONS)) == 16
    assert all(question.count("{expression}") == 1 for question in QUESTIONS)
    assert len(ANSWERS) == 5
    assert all(answer.count(T.SEG) == 1 for answer in ANSWERS)
