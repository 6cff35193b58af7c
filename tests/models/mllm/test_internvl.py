"""The InternVL adapter on a toy model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from refstream.checkpoints import internvl as layout
from refstream.models.mllm import InternVL, PromptBuilder, build_tiny_tokenizer
from refstream.models.protocols import MLLM
from refstream.registry import MODELS

D = 32


def toy_config(**text: object) -> dict:
    return {
        "vision_config": {
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "attention_bias": True,
            "image_size": 32,
            "patch_size": 8,
        },
        "text_config": {
            "model_type": "qwen2",
            "hidden_size": D,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 48,
            "vocab_size": 8,
            "max_position_embeddings": 256,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            **text,
        },
        "downsample_ratio": 0.5,
    }


@pytest.fixture
def mllm() -> InternVL:
    return InternVL(
        toy_config(), build_tiny_tokenizer(["red", "circle"]), init_word_embeddings_std=1.0
    ).eval()


def images(count: int = 2) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (20 + i, 33, 3), dtype=np.uint8) for i in range(count)]


def inputs(mllm: InternVL, expressions: list[str]):
    tokens = mllm.encode_images(mllm.preprocess(images(len(expressions))))
    return mllm.prompts.referring(expressions), tokens


@torch.no_grad()
def test_shapes_and_protocol(mllm: InternVL) -> None:
    assert isinstance(mllm, MLLM)
    assert (mllm.hidden_size, mllm.num_image_tokens, mllm.image_size) == (D, 4, 32)
    pixels = mllm.preprocess(images())
    assert pixels.shape == (2, 3, 32, 32)
    assert pixels.dtype == torch.float32
    wide = [np.zeros((32, 64, 3), dtype=np.uint8)]
    assert mllm.preprocess(wide, max_tiles=12).shape[0] == sum(mllm.tile_counts(wide, max_tiles=12))
    chat, tokens = inputs(mllm, ["red circle", "circle"])
    assert tokens.shape == (2, 4, D)
    output = mllm.forward_chat(chat, tokens, with_logits=True)
    length, vocabulary = chat.input_ids.shape[1], len(mllm.tokenizer)
    assert output.hidden.shape == (2, length, D)
    assert output.logits.shape == (2, length, vocabulary)
    assert output.loss is None
    by_row = mllm.forward_chat(chat, tokens.reshape(2, -1, D))
    assert torch.equal(by_row.hidden, output.hidden)
    with pytest.raises(ValueError, match="at least one image"):
        mllm.preprocess([])


def test_built_by_name_from_a_folder_of_a_tokenizer(tmp_path: Path) -> None:
    build_tiny_tokenizer(["red"]).save_pretrained(tmp_path)
    config = {"type": "InternVL", "config": toy_config(), "tokenizer": str(tmp_path)}
    model = MODELS.build({**config, "prompts": {"with_context": False}})
    assert isinstance(model, InternVL)
    assert not model.prompts.with_context
    assert model.word_embeddings.weight.std() < 0.05
    spread = MODELS.build({**config, "init_word_embeddings_std": 1.0}).word_embeddings.weight.std()
    assert spread.item() == pytest.approx(1.0, abs=0.05)


@torch.no_grad()
def test_rows_do_not_see_each_other_or_padding(mllm: InternVL) -> None:
    chat, tokens = inputs(mllm, ["red circle with a long description", "circle"])
    both = mllm.forward_chat(chat, tokens)
    alone = mllm.forward_chat(mllm.prompts.referring(["circle"]), tokens[1:])
    length = alone.hidden.shape[1]
    torch.testing.assert_close(both.hidden[1, :length], alone.hidden[0], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_context_overwrites_its_slot_only(mllm: InternVL) -> None:
    chat, tokens = inputs(mllm, ["red circle", "circle"])
    context = torch.randn(2, 1, D)
    plain = mllm.embed(chat, tokens)
    mixed = mllm.embed(chat, tokens, context, torch.tensor([True, False]))
    at = chat.context_positions[0, 0]
    assert torch.equal(mixed[0, at], context[0, 0])
    assert torch.equal(mixed[1], plain[1])
    assert int((mixed != plain).any(-1).sum()) == 1
    per_slot = mllm.embed(chat, tokens, context, torch.tensor([[True], [False]]))
    assert torch.equal(per_slot, mixed)
    rows = torch.arange(2)[:, None]
    everywhere = mllm.embed(chat, tokens, context)
    assert torch.equal(everywhere[rows, chat.context_positions], context)
    assert torch.equal(plain[chat.image_positions], tokens.flatten(0, 1))
    bare = PromptBuilder(mllm.tokenizer, 4, with_context=False).referring(["red circle", "circle"])
    assert torch.equal(mllm.embed(bare, tokens, context), mllm.embed(bare, tokens))


def test_gradients_reach_context_image_and_placeholder(mllm: InternVL) -> None:
    mllm.train()
    chat, _ = inputs(mllm, ["red circle", "circle"])
    tokens = torch.randn(2, 4, D, requires_grad=True)
    context = torch.randn(2, 1, D, requires_grad=True)
    output = mllm.forward_chat(chat, tokens, context, torch.tensor([True, False]))
    output.loss.backward()
    assert tokens.grad.abs().sum() > 0
    assert context.grad[0].abs().sum() > 0
    assert context.grad[1].abs().sum() == 0
    assert mllm.word_embeddings.weight.grad[mllm.prompts.ids.time_context].abs().sum() > 0


def test_token_loss_is_the_cross_entropy_of_supervised_tokens(mllm: InternVL) -> None:
    chat, tokens = inputs(mllm, ["red circle", "circle"])
    output = mllm.forward_chat(chat, tokens, with_logits=True, with_loss=True)
    expected = F.cross_entropy(output.logits[:, :-1].flatten(0, 1), chat.labels[:, 1:].flatten())
    torch.testing.assert_close(output.loss, expected)
    opened = mllm.prompts.referring(["a", "b"], with_answer=False)
    assert mllm.forward_chat(opened, tokens, with_loss=True).loss == 0


def test_wrong_inputs_are_explained(mllm: InternVL) -> None:
    chat, tokens = inputs(mllm, ["red circle", "circle"])
    with pytest.raises(ValueError, match="places for 8 vision tokens, got 4"):
        mllm.forward_chat(chat, tokens[:1])
    with pytest.raises(ValueError, match=r"context must be \(2, 1, 32\)"):
        mllm.forward_chat(chat, tokens, torch.zeros(2, 2, D))
    long = mllm.prompts.referring(["x" * 300])
    with pytest.raises(ValueError, match="the language model takes 256"):
        mllm.forward_chat(long, tokens[:1])
    with pytest.raises(ValueError, match="image_size 36"):
        InternVL(
            {**toy_config(), "vision_config": {**toy_config()["vision_config"], "image_size": 36}},
            build_tiny_tokenizer([]),
        )
    with pytest.raises(ValueError, match="unknown size"):
        InternVL.from_size("internvl2_5-8b")


def rotary(mllm: InternVL) -> Tensor:
    return mllm.model.model.language_model.rotary_emb.inv_freq


def test_rotary_tables_stay_float32(mllm: InternVL) -> None:
    exact = Qwen2RotaryEmbedding(mllm.config.text_config).inv_freq
    wrapped = torch.nn.ModuleDict({"mllm": mllm}).to(torch.bfloat16)
    assert wrapped["mllm"].dtype == torch.bfloat16
    assert rotary(mllm).dtype == torch.float32
    assert torch.equal(rotary(mllm), exact)
    assert torch.equal(rotary(mllm.half().float()), exact)
    mllm.to(torch.bfloat16)
    chat, tokens = inputs(mllm, ["red circle"])
    assert mllm.forward_chat(chat, tokens).hidden.dtype == torch.bfloat16


@torch.no_grad()
def test_generation_has_the_states_of_a_forced_answer(mllm: InternVL) -> None:
    _, tokens = inputs(mllm, ["red circle"])
    opened = mllm.prompts.referring(["red circle"], with_answer=False)
    answer = mllm.generate(opened, tokens, max_new_tokens=6, keep_all_hidden=True)
    count = len(answer.ids)
    assert answer.hidden.shape == (count - 1, D)
    assert len(answer.all_hidden) == count
    assert answer.all_hidden[0][-1].shape == (1, opened.input_ids.shape[1], D)
    forced = torch.cat([opened.input_ids, answer.ids[None]], dim=1)
    embeds = torch.cat([mllm.embed(opened, tokens), mllm.word_embeddings(answer.ids[None])], dim=1)
    hidden = mllm.model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state[0]
    start = opened.input_ids.shape[1]
    torch.testing.assert_close(answer.hidden, hidden[start : forced.shape[1] - 1], atol=1e-5, rtol=1e-4)
    greedy = mllm.model.lm_head(hidden[start - 1 : -1]).argmax(-1)
    assert torch.equal(greedy, answer.ids)
    assert torch.equal(answer.at(int(answer.ids[0])), answer.hidden[answer.ids[:-1] == answer.ids[0]])
    word = mllm.tokenizer.decode(answer.ids[:1])
    stopped = mllm.generate(opened, tokens, max_new_tokens=6, stop_words=[word])
    assert len(stopped.ids) == 1
    assert stopped.hidden.shape == (0, D)
    with pytest.raises(ValueError, match="one prompt at a time"):
        mllm.generate(mllm.prompts.referring(["a", "b"], num_tiles=0), None)


def test_vocabulary_grows_by_mean_rows(mllm: InternVL) -> None:
    before = mllm.word_embeddings.weight.detach().clone()
    assert mllm.resize_vocabulary(["<new>", "[SEG]"]) == 1
    weight = mllm.word_embeddings.weight
    assert weight.shape[0] == mllm.model.lm_head.weight.shape[0] == len(before) + 1
    torch.testing.assert_close(weight[-1], before.mean(0))
    assert mllm.config.text_config.vocab_size == len(mllm.tokenizer)
    chat, tokens = inputs(mllm, ["red <new> circle"])
    assert mllm.forward_chat(chat, tokens, with_logits=True).logits.shape[-1] == len(before) + 1


def same(a: InternVL, b: InternVL) -> None:
    chat, tokens = inputs(a, ["red circle"])
    with torch.no_grad():
        expected = a.forward_chat(chat, tokens, with_logits=True).logits
        found = b.forward_chat(b.prompts.referring(["red circle"]), tokens, with_logits=True).logits
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_own_folder_round_trip_keeps_the_head(mllm: InternVL, tmp_path: Path) -> None:
    mllm.save_pretrained(tmp_path)
    loaded = InternVL.from_pretrained(tmp_path)
    assert torch.equal(loaded.model.lm_head.weight, mllm.model.lm_head.weight)
    assert not torch.equal(loaded.model.lm_head.weight, loaded.word_embeddings.weight)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["tie_word_embeddings"] is False
    assert written["text_config"]["tie_word_embeddings"] is False
    same(mllm, loaded)


def write_original(mllm: InternVL, folder: Path, *, shards: int = 1) -> dict[str, Tensor]:
    """The folder that OpenGVLab would publish for this model."""
    mllm.tokenizer.save_pretrained(folder)
    config = layout.original_config(mllm.config.to_dict())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    state = {key: value.clone() for key, value in layout.to_original(mllm.model.state_dict()).items()}
    names = sorted(state)
    index = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors" if shards > 1 else "model.safetensors"
        part = {key: state[key] for key in names[shard::shards]}
        save_file(part, folder / file)
        index |= dict.fromkeys(part, file)
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return state


@pytest.mark.parametrize("shards", [1, 3])
def test_original_folders(mllm: InternVL, tmp_path: Path, shards: int) -> None:
    write_original(mllm, tmp_path, shards=shards)
    same(mllm, InternVL.from_pretrained(tmp_path))
    half = InternVL.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert rotary(half).dtype == torch.float32


def test_broken_folders_are_explained(mllm: InternVL, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        InternVL.from_pretrained(tmp_path)
    state = write_original(mllm, tmp_path)
    state.pop("mlp1.1.weight")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"multi_modal_projector\.linear_1\.weight"):
        InternVL.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sa2va_chat"}))
    with pytest.raises(ValueError, match="sa2va"):
        InternVL.from_pretrained(tmp_path)


@pytest.mark.gpu
def test_cuda_bfloat16(mllm: InternVL) -> None:
    mllm.to("cuda", torch.bfloat16)
    chat, tokens = inputs(mllm, ["red circle", "circle"])
    output = mllm.forward_chat(chat.to("cuda"), tokens, torch.randn(2, 1, D, device="cuda"), with_logits=True)
    assert output.hidden.is_cuda
    assert torch.isfinite(output.logits).all()
    opened = mllm.prompts.referring(["circle"], with_answer=False).to("cuda")
    assert len(mllm.generate(opened, tokens[:1], max_new_tokens=4).ids) <= 4
