"""The seam to the MLLM: prompt, pooling, positions of the [ST] tokens, labels, gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from refstream_projects.virst.clip import ClipReader, build_reader
from refstream_projects.virst.tests.models import NUM_TOKENS, clip, small_virst
from torch import Tensor

from refstream.errors import UserError
from refstream.models.protocols import MLLMOutput
from refstream.testing import FakeModel, small_model

SAID = ["the red circle", "the blue square"]


@pytest.fixture(scope="module")
def model() -> Any:
    return small_virst()


def reader_of(model: Any, **keys: Any) -> ClipReader:
    return ClipReader(model, **{"frame_tokens": 1, "max_mllm_frames": 4, **keys})


def images(num_frames: int) -> list[Any]:
    return [frame.image for frame in clip(num_frames)]


def test_default_tokens_per_frame(model: Any) -> None:
    assert ClipReader(model).frame_tokens == 4, "the small MLLM has no 16"


@pytest.mark.parametrize(
    ("num_frames", "seen"), [(1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (10, [0, 3, 6, 9])]
)
def test_frames_for_the_mllm(model: Any, num_frames: int, seen: list[int]) -> None:
    reader = reader_of(model)
    assert reader.frames(num_frames) == seen
    some = images(num_frames)
    tokens = reader.vision_tokens(some)
    assert tokens.shape == (len(seen), 1, model.mllm.hidden_size)
    whole = model.mllm.encode_images(model.mllm.preprocess([some[t] for t in seen]))
    torch.testing.assert_close(tokens, whole.mean(1, keepdim=True))


def test_prompt(model: Any) -> None:
    reader = reader_of(model)
    chat = reader.chat(SAID, [2, 1])
    prompts = model.mllm.prompts
    texts = [
        prompts.tokenizer.decode(row[seen])
        for row, seen in zip(chat.input_ids, chat.attention_mask, strict=True)
    ]
    frame = "<img><IMG_CONTEXT></img>\n"
    start, seg = "<|im_start|>user\n", "[SEG]" * NUM_TOKENS
    end = f" in this video.<|im_end|>\n<|im_start|>assistant\nSure, {seg}.<|im_end|>"
    assert texts[0] == f"{start}Frame1: {frame}Frame2: {frame}Please segment the red circle{end}"
    assert texts[1] == f"{start}Frame1: {frame}Please segment the blue square{end}"
    assert chat.image_slots == (2, 1)
    rows = torch.arange(2)[:, None]
    assert (chat.input_ids[rows, chat.seg_positions] == prompts.ids.seg).all()
    assert chat.seg_positions.shape == (2, NUM_TOKENS)


def test_prompt_of_the_release_and_of_one_token(model: Any) -> None:
    text = model.mllm.prompts.tokenizer.decode(
        reader_of(model, numbered=True, answer="It is {st}.", frame_label="").chat(["x"], 1).input_ids[0]
    )
    assert text.endswith("assistant\nIt is (0) [SEG], (1) [SEG], (2) [SEG].<|im_end|>")
    assert "Frame" not in text
    one = reader_of(model)
    one.num_tokens = 1
    assert one.chat(["x"], 1).seg_positions.shape == (1, 1)


def test_st_targets_are_not_supervised(model: Any) -> None:
    reader, prompts = reader_of(model), model.mllm.prompts
    chat = reader.chat(SAID, 1)
    supervised = chat.labels[0][chat.labels[0] >= 0]
    assert prompts.tokenizer.decode(supervised) == "Sure, .<|im_end|>"
    assert reader.supervised_tokens() == len(supervised)
    assert reader.supervised_tokens("{st}") == 1, "the end token alone"


def test_only_the_st_embeddings_are_overwritten(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, seen = reader_of(model), {}
    embed = model.mllm.embed

    def spy(*args: Any) -> Tensor:
        seen["embeds"] = embed(*args)
        return seen["embeds"]

    monkeypatch.setattr(model.mllm, "embed", spy)
    states = torch.randn(2, NUM_TOKENS, model.mllm.hidden_size, dtype=torch.float64)
    vision = reader.vision_tokens(images(3))
    chat = reader.read(vision, states, SAID).chat
    rows = torch.arange(2)[:, None]
    assert torch.equal(seen["embeds"][rows, chat.seg_positions], states)
    plain = embed(chat, vision.flatten(0, 1)[None].expand(2, -1, -1))
    changed = (seen["embeds"] != plain).any(-1)
    assert changed.sum() == 2 * NUM_TOKENS


def test_states_are_read_at_the_tokens_themselves(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A language model that answers with the positions."""

    def forward(chat: Any, *args: Any, **keys: Any) -> MLLMOutput:
        places = torch.arange(chat.input_ids.shape[1]).expand(chat.batch_size, -1)
        return MLLMOutput(places[..., None].float())

    monkeypatch.setattr(model.mllm, "forward_chat", forward)
    reader = reader_of(model)
    embeds = torch.zeros(1, NUM_TOKENS, model.mllm.hidden_size)
    reading = reader.read(reader.vision_tokens(images(2)), embeds, SAID)
    assert torch.equal(reading.hidden[..., 0].long(), reading.chat.seg_positions)
    assert reading.token_loss is None


def test_token_loss_is_that_of_the_logits(model: Any) -> None:
    reader = reader_of(model)
    vision, embeds = reader.vision_tokens(images(2)), model.head.st_tokens(1)
    reading = reader.read(vision, embeds, SAID, with_loss=True)
    chat = replace(reading.chat, context_positions=reading.chat.seg_positions)
    seen = vision.flatten(0, 1)[None].expand(2, -1, -1)
    logits = model.mllm.forward_chat(chat, seen, embeds.expand(2, -1, -1), with_logits=True).logits
    by_hand = F.cross_entropy(
        logits[:, :-1].transpose(1, 2).float(), chat.labels[:, 1:], ignore_index=-100, reduction="none"
    ).sum(1)
    assert reading.token_loss is not None
    torch.testing.assert_close(reading.token_loss, by_hand)
    assert reading.num_targets == 2 * reader.supervised_tokens()


def test_expressions_may_have_frames_of_their_own(model: Any) -> None:
    reader = reader_of(model)
    views = [reader.vision_tokens(images(3)), reader.vision_tokens(images(1))]
    embeds = torch.randn(2, NUM_TOKENS, model.mllm.hidden_size, dtype=torch.float64)
    both = reader.read(views, embeds, SAID, with_loss=True)
    for i, view in enumerate(views):
        alone = reader.read(view, embeds[i : i + 1], SAID[i : i + 1], with_loss=True)
        torch.testing.assert_close(both.hidden[i], alone.hidden[0])
        torch.testing.assert_close(both.token_loss[i], alone.token_loss[0])


def test_gradients_reach_embeddings_frames_and_words() -> None:
    model = small_virst().train()
    reader = reader_of(model)
    vision = reader.vision_tokens(images(2))
    vision.retain_grad()
    reading = reader.read(vision, model.head.st_tokens(1), SAID)
    assert reading.token_loss is not None, "in training the loss comes by itself"
    (reading.hidden.sum() + reading.token_loss.sum()).backward()
    for gradient in (
        model.head.st_tokens.embeddings.grad,
        vision.grad,
        model.mllm.word_embeddings.weight.grad,
    ):
        assert gradient is not None
        assert gradient.abs().sum() > 0
    seg = model.mllm.prompts.ids.seg
    assert not model.mllm.word_embeddings.weight.grad[seg].any(), "the word [SEG] itself is never read"


def test_a_frozen_tower_runs_without_a_graph() -> None:
    model = small_virst()
    for module in model.mllm.vision_modules():
        module.requires_grad_(False)
    assert not reader_of(model).vision_tokens(images(2)).requires_grad


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (dict(frame_tokens=2), "frame_tokens must be one of"),
        (dict(max_mllm_frames=0), "max_mllm_frames must be at least 1"),
        (dict(question="Segment it."), "expression"),
        (dict(answer="Sure, [SEG]."), "must contain"),
        (dict(answer="{st} [SEG]"), "must contain"),
        (dict(tokens=4), "does not accept"),
    ],
)
def test_wrong_keys(model: Any, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_reader(model, keys)


def test_wrong_shapes(model: Any) -> None:
    reader = reader_of(model)
    vision, embeds = reader.vision_tokens(images(2)), model.head.st_tokens(1)
    with pytest.raises(ValueError, match="vision tokens must be"):
        reader.read([vision], embeds, SAID)
    with pytest.raises(ValueError, match="vision tokens must be"):
        reader.read(vision.repeat(1, 4, 1), embeds, SAID)
    with pytest.raises(ValueError, match="st_embeds must be"):
        reader.read(vision, embeds[:, :2], SAID)
    with pytest.raises(ValueError, match="st_embeds must be"):
        reader.read(vision, embeds.expand(3, -1, -1), SAID)
    with pytest.raises(ValueError, match="the language model takes 512"):
        reader.read(vision.repeat(300, 1, 1), embeds, SAID)


def test_models_without_st_tokens_are_refused() -> None:
    for other in (FakeModel(), small_model()):
        with pytest.raises(UserError, match="SpatioTemporalFusion"):
            build_reader(other, {})
