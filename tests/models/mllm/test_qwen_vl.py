"""The Qwen2.5-VL adapter on a toy model, against transformers' plain class, processor and generation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRotaryEmbedding

from refstream.errors import UserError
from refstream.models.mllm import QwenVL, Turn
from refstream.models.mllm.chat_tokens import ChatTokens
from refstream.models.mllm.decoding import decode_constrained
from refstream.models.mllm.dialogue import Dialogue
from refstream.models.mllm.qwen_images import patches
from refstream.models.mllm.window import DialogueWindow
from refstream.models.protocols import MLLM, DialogueMLLM
from tests.models.mllm.qwen_toys import (
    TOKENS,
    D,
    build,
    images,
    plain_class,
    plain_inputs,
    processor,
    stream,
)


@pytest.fixture
def mllm() -> QwenVL:
    return build()


# ------------------------------------------------------------ pixels


def test_preprocessing_is_that_of_the_image_processor() -> None:
    mllm = build(image_size=(224, 420))
    assert (mllm.num_image_tokens, mllm.image_grid) == (120, (8, 15))
    for height, width in ((360, 640), (720, 1280), (215, 410), (224, 420)):
        (image,) = images(1, height, width)
        theirs = processor(min_pixels=3136, max_pixels=100352)([image], return_tensors="pt")
        assert theirs["image_grid_thw"].tolist() == [[1, 16, 30]]
        pixels = mllm.preprocess([image])
        assert pixels.shape == (1, 3, 224, 420)
        assert pixels.dtype == torch.float32
        rows = patches(pixels, side=14, merge=2, times=2)
        torch.testing.assert_close(rows, theirs["pixel_values"], atol=2e-6, rtol=0)
    by_pil = build(image_size=(224, 420), resize="pil").preprocess(images(1, 360, 640))
    assert (by_pil - mllm.preprocess(images(1, 360, 640))).abs().max() < 0.05  # grey levels of 255


@torch.no_grad()
def test_vision_tokens_are_those_of_the_plain_class(mllm: QwenVL, tmp_path: Path) -> None:
    frames = images(3)
    tokens = mllm.encode_images(mllm.preprocess(frames))
    assert tokens.shape == (3, TOKENS, D)
    theirs = processor(do_resize=False)(frames, return_tensors="pt")
    found = plain_class(mllm, tmp_path).model.get_image_features(**theirs).pooler_output
    torch.testing.assert_close(tokens, torch.stack(found), atol=1e-5, rtol=1e-5)
    alone = mllm.encode_images(mllm.preprocess(frames[1:2]))
    torch.testing.assert_close(alone[0], tokens[1], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"pixels must be \(N, 3, \(56, 84\)\)"):
        mllm.encode_images(torch.zeros(1, 3, 56, 56))
    with pytest.raises(ValueError, match="at least one image"):
        mllm.preprocess([])
    with pytest.raises(ValueError, match="uint8 RGB"):
        mllm.preprocess([np.zeros((4, 4, 3))])


# ------------------------------------------------------------ one pass


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_logits_are_those_of_the_plain_class(tied: bool, tmp_path: Path) -> None:
    mllm = build(tied=tied)
    frames = images(5)
    dialogues = [stream(3), stream(2, answers=("circle",))]
    chat = mllm.prompts.turns(dialogues, system="red circle")
    assert not chat.attention_mask.all(), "the shorter row is padded"
    tokens = mllm.encode_images(mllm.preprocess(frames))
    ours = mllm.forward_chat(chat, tokens, with_logits=True, with_loss=True)
    plain = plain_class(mllm, tmp_path)
    assert (plain.lm_head.weight is plain.model.language_model.embed_tokens.weight) == tied
    theirs = plain(**plain_inputs(chat, frames), labels=chat.labels)
    real = chat.attention_mask
    torch.testing.assert_close(ours.logits[real], theirs.logits[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.loss, theirs.loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        ours.row_loss.sum(),
        F.cross_entropy(theirs.logits[:, :-1].flatten(0, 1), chat.labels[:, 1:].flatten(), reduction="sum"),
        atol=1e-4,
        rtol=1e-5,
    )


def test_positions_in_closed_form(mllm: QwenVL) -> None:
    """An image of 2 x 3 tokens: one time, its rows, its columns; words go on after the largest."""
    chat = mllm.prompts.turns([[Turn("now", None, images=1)]])
    positions, end = mllm.positions(chat, 10)
    at = int(chat.image_positions[0].nonzero()[0, 0])
    after = chat.input_ids.shape[1] - at - TOKENS
    words = torch.arange(at)
    time, row, column = positions[:, 0] - 10
    assert torch.equal(time, torch.cat([words, torch.full((6,), at), at + 3 + torch.arange(after)]))
    assert torch.equal(row[at : at + 6] - at, torch.tensor([0, 0, 0, 1, 1, 1]))
    assert torch.equal(column[at : at + 6] - at, torch.tensor([0, 1, 2, 0, 1, 2]))
    assert end == 10 + at + 3 + after
    empty, same = mllm.positions(mllm.prompts.opening(), 7)
    assert (tuple(empty.shape), same) == ((3, 1, 0), 7)
    with pytest.raises(ValueError, match="a piece is one dialogue"):
        mllm.positions(mllm.prompts.turns([stream(1), stream(1)]))


def test_pooled_images_have_the_positions_of_a_square() -> None:
    mllm = build(image_size=(112, 112))  # 4 x 4 tokens
    chat = mllm.prompts.turns([[Turn("now", None, images=1)]], tile_tokens=4)
    at = int(chat.image_positions[0].nonzero()[0, 0])
    positions, _ = mllm.positions(chat)
    found = positions[:, 0, at : at + 4] - at
    assert found.tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1]]
    wrong = mllm.prompts.turns([[Turn("now", None, images=1)]], tile_tokens=5)
    with pytest.raises(UserError, match="got 5"):
        mllm.positions(wrong)
    wide = build(image_size=(56, 224))  # 2 x 8 tokens, as many as 4 x 4
    with pytest.raises(UserError, match="2 x 8 tokens cannot be pooled"):
        wide.positions(wide.prompts.turns([[Turn("now", None, images=1)]], tile_tokens=4))


# ------------------------------------------------------------ piece by piece


def pieces(mllm: QwenVL, turns: list[Turn], system: str | None) -> list[ChatTokens]:
    made = [mllm.prompts.opening(system=system)]
    for number, turn in enumerate(turns):
        made.append(mllm.prompts.turn_opening(turn, first=number == 0, system=system))
        if turn.answer is not None:
            made.append(mllm.prompts.turn_closing(turn.answer))
    return made


@pytest.mark.parametrize("system", [None, "red circle"])
@torch.no_grad()
def test_a_dialogue_grown_in_the_cache_has_the_logits_of_one_pass(
    mllm: QwenVL, system: str | None, tmp_path: Path
) -> None:
    turns, frames = stream(6), images(6)
    tokens = mllm.encode_images(mllm.preprocess(frames))
    whole = mllm.prompts.turns([turns], system=system)
    theirs = plain_class(mllm, tmp_path)(**plain_inputs(whole, frames)).logits
    cache, start, shown, hidden, by_counting = mllm.new_cache(), 0, 0, [], []
    counted = mllm.new_cache()
    for chat in pieces(mllm, turns, system):
        if chat.input_ids.shape[1] == 0:
            continue
        count = int(chat.image_positions.any())
        seen = tokens[shown : shown + count] if count else None
        shown += count
        embeds = mllm.embed(chat, seen)
        positions, start = mllm.positions(chat, start)
        hidden.append(mllm.extend(embeds, positions, cache))
        first = counted.get_seq_length()
        by_counting.append(mllm.extend(embeds, torch.arange(first, first + embeds.shape[1])[None], counted))
    assert cache.get_seq_length() == whole.input_ids.shape[1]
    assert start == int(mllm.batch_positions(whole).max()) + 1 < whole.input_ids.shape[1]
    torch.testing.assert_close(mllm.logits(torch.cat(hidden, 1)), theirs, atol=1e-5, rtol=1e-5)
    # one position per token, as transformers' generate continues a cache, is another model
    assert (mllm.logits(torch.cat(by_counting, 1)) - theirs).abs().max() > 0.1


@torch.no_grad()
def test_packed_dialogues_do_not_see_each_other(mllm: QwenVL) -> None:
    dialogues = [stream(2), stream(1, answers=("circle",)), stream(3)]
    chats = [mllm.prompts.turns([turns]) for turns in dialogues]
    tokens = mllm.encode_images(mllm.preprocess(images(6))).split([2, 1, 3])
    alone = [mllm.forward_chat(chat, seen).hidden for chat, seen in zip(chats, tokens, strict=True)]
    embeds = [mllm.embed(chat, seen) for chat, seen in zip(chats, tokens, strict=True)]
    positions = [mllm.positions(chat)[0] for chat in chats]
    packed = mllm.extend(torch.cat(embeds, 1), torch.cat(positions, -1))
    torch.testing.assert_close(packed, torch.cat(alone, 1), atol=1e-5, rtol=1e-5)
    (single,) = mllm.extend(embeds[2], positions[2])
    torch.testing.assert_close(single, alone[2][0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_generation_is_that_of_the_plain_class(mllm: QwenVL, tmp_path: Path) -> None:
    frames = images(2)
    tokens = mllm.encode_images(mllm.preprocess(frames))
    opened = mllm.prompts.turns([[*stream(1), Turn("now", None, images=1)]])
    answer = mllm.generate(opened, tokens, max_new_tokens=12)
    plain = plain_class(mllm, tmp_path)
    theirs = plain.generate(
        **plain_inputs(opened, frames),
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=list(mllm.prompts.stop_ids),
        pad_token_id=mllm.prompts.pad_id,
    )
    assert len(answer.ids) > 2
    assert answer.ids.tolist() == theirs[0, opened.input_ids.shape[1] :].tolist()
    embeds = torch.cat([mllm.embed(opened, tokens), mllm.word_embeddings(answer.ids[None])], dim=1)
    positions, start = mllm.positions(opened)
    more = torch.arange(start, start + len(answer.ids)).expand(3, 1, -1)
    hidden = mllm.extend(embeds, torch.cat([positions, more], -1))[0]
    length = opened.input_ids.shape[1]
    torch.testing.assert_close(answer.hidden, hidden[length:-1], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_running_dialogue_evicts_undoes_and_decides_as_a_fresh_one(mllm: QwenVL) -> None:
    """M-RoPE's positions are not token counts, and must survive cuts and evictions of the cache."""
    tokens = mllm.encode_images(mllm.preprocess(images(12)))
    window = DialogueWindow(max_tokens=260, reserve=24)
    dialogue = Dialogue(mllm, window)
    turns = stream(12)
    first, second = mllm.tokenizer.convert_tokens_to_ids(["red", "circle"])
    dialogue.add(mllm.prompts.opening(system="now"), segment="system")
    decisions = []
    for number, turn in enumerate(turns):
        chat = mllm.prompts.turn_opening(turn, first=number == 0, system="now")
        hidden = dialogue.append(chat, tokens[number], segment="question" if number == 0 else "round")
        before = dialogue.snapshot()
        tried = decode_constrained(dialogue, hidden, [first, second], max_new_tokens=4)
        decisions.append(tried.decision.probabilities)
        dialogue.crop(before)
        dialogue.add(mllm.prompts.turn_closing(turn.answer or ""))
    assert dialogue.evicted > 2
    assert dialogue.num_tokens <= 260
    final = dialogue.append(mllm.prompts.turn_opening(Turn("now"), first=False, system="now"))
    kept = [0, *range(len(turns) - (len(dialogue.segments) - 2), len(turns))]
    fresh = mllm.prompts.turns([[*(turns[k] for k in kept), Turn("now")]], system="now")
    expected = mllm.forward_chat(fresh, tokens[kept], with_logits=True).logits[:, -final.shape[1] :]
    torch.testing.assert_close(mllm.logits(final), expected, atol=1e-5, rtol=1e-5)
    # the first decision, closed form: a softmax over two of the logits of one pass
    opened = mllm.prompts.turns([[Turn(turns[0].text, None, 1)]], system="now")
    logits = mllm.forward_chat(opened, tokens[:1], with_logits=True).logits[0, -1]
    torch.testing.assert_close(decisions[0], logits[[first, second]].softmax(0), atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------ as a part of RefStream


@torch.no_grad()
def test_protocol_and_referring_prompts(mllm: QwenVL) -> None:
    assert isinstance(mllm, MLLM)
    assert isinstance(mllm, DialogueMLLM)
    assert (mllm.hidden_size, mllm.num_image_tokens) == (D, TOKENS)
    assert mllm.tile_counts(images(), max_tiles=12) == [1, 1]
    chat = mllm.prompts.referring(["red circle", "circle"])
    marked = mllm.tokenizer.convert_ids_to_tokens(chat.input_ids[0].tolist())
    at = marked.index("<|vision_start|>")
    assert marked[at : at + TOKENS + 2] == ["<|vision_start|>", *["<|image_pad|>"] * 6, "<|vision_end|>"]
    tokens = mllm.encode_images(mllm.preprocess(images()))
    context = torch.randn(2, 1, D)
    plain, mixed = mllm.embed(chat, tokens), mllm.embed(chat, tokens, context)
    assert int((mixed != plain).any(-1).sum()) == 2
    both = mllm.forward_chat(chat, tokens, context)
    alone = mllm.forward_chat(mllm.prompts.referring(["circle"]), tokens[1:], context[1:])
    length = alone.hidden.shape[1]
    torch.testing.assert_close(both.hidden[1, :length], alone.hidden[0], atol=1e-5, rtol=1e-4)
    spelled = mllm.prompts.text([[("<|image_pad|><|vision_start|>", None)]])
    assert not spelled.image_positions.any()
    assert mllm.forward_chat(spelled, None).hidden.shape[1] == spelled.input_ids.shape[1]
    with pytest.raises(ValueError, match="places for 12 vision tokens, got 6"):
        mllm.forward_chat(chat, tokens[:1])
    with pytest.raises(ValueError, match="the language model takes 512"):
        mllm.forward_chat(mllm.prompts.text([[("x" * 600, None)]]), None)


def test_gradients_reach_connector_words_and_layers(mllm: QwenVL) -> None:
    mllm.train()
    for module in mllm.vision_modules():
        module.requires_grad_(False)
    merger = mllm.model.model.visual.merger.requires_grad_(True)
    mllm.checkpoint_gradients()
    chat = mllm.prompts.turns([stream(2)])
    tokens = mllm.encode_images(mllm.preprocess(images()))
    mllm.forward_chat(chat, tokens).loss.backward()
    assert merger.mlp[0].weight.grad.abs().sum() > 0
    assert mllm.model.model.visual.blocks[0].mlp.up_proj.weight.grad is None
    assert mllm.word_embeddings.weight.grad.abs().sum() > 0


def test_rotary_tables_stay_float32(mllm: QwenVL) -> None:
    exact = Qwen2_5_VLRotaryEmbedding(mllm.config.text_config).inv_freq
    vision = mllm.model.model.visual.rotary_pos_emb.inv_freq.clone()
    mllm.to(torch.bfloat16).half().float()
    assert torch.equal(mllm.model.model.language_model.rotary_emb.inv_freq, exact)
    assert torch.equal(mllm.model.model.visual.rotary_pos_emb.inv_freq, vision)
    mllm.to(torch.bfloat16)
    tokens = mllm.encode_images(mllm.preprocess(images(1)))
    assert mllm.forward_chat(mllm.prompts.turns([stream(1)]), tokens).hidden.dtype == torch.bfloat16


@pytest.mark.gpu
def test_cuda_bfloat16(mllm: QwenVL) -> None:
    mllm.to("cuda", torch.bfloat16)
    chat = mllm.prompts.turns([stream(2), stream(1)]).to("cuda")
    tokens = mllm.encode_images(mllm.preprocess(images(3)))
    output = mllm.forward_chat(chat, tokens, with_logits=True)
    assert output.hidden.is_cuda
    assert torch.isfinite(output.logits).all()
    opened = mllm.prompts.turns([[Turn("now", None, images=1)]]).to("cuda")
    assert len(mllm.generate(opened, tokens[:1], max_new_tokens=4).ids) <= 4
