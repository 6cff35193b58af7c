"""LoRA and token rows: what is adapted, that merging is peft's, and that old rows never move."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from refstream.models.mllm.internvl import InternVL
from refstream.models.mllm.lora import (
    add_lora,
    load_lora,
    lora_layers,
    lora_state_dict,
    merged_state_dict,
)
from refstream.models.mllm.token_rows import train_token_rows
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.mllm.tokens import ADDED_TOKENS
from refstream.models.modeling import RefStreamConfig, RefStreamModel
from refstream.testing.small import MLLM, SAM2

ADAPTED = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture
def mllm() -> InternVL:
    return InternVL(MLLM, build_tiny_tokenizer(["the red circle"])).eval()


def stir(module: nn.Module) -> None:
    """Give the adapters' second matrices values, as after some training."""
    for layer in lora_layers(module).values():
        nn.init.normal_(layer.lora_B["default"].weight, std=0.1)


def logits(mllm: InternVL) -> torch.Tensor:
    chat = mllm.prompts.referring(["the red circle"], num_tiles=1)
    tokens = torch.randn(1, mllm.num_image_tokens, 32, generator=torch.Generator().manual_seed(1))
    return mllm.forward_chat(chat, tokens, with_logits=True).logits


def test_every_linear_layer_of_the_language_model_is_adapted_and_nothing_else(mllm: InternVL) -> None:
    before = logits(mllm)
    assert add_lora(mllm, r=4, alpha=8) == 2 * len(ADAPTED)
    layers = lora_layers(mllm)
    assert {name.rsplit(".", 1)[1] for name in layers} == ADAPTED
    assert all(name.startswith("model.model.language_model.layers.") for name in layers)
    assert all(layer.scaling["default"] == 2.0 for layer in layers.values())
    trained = {n for n, p in mllm.model.model.language_model.named_parameters() if p.requires_grad}
    assert trained
    assert all(".lora_" in name for name in trained)
    assert torch.equal(logits(mllm), before)  # a fresh adapter changes nothing
    with pytest.raises(ValueError, match="already"):
        add_lora(mllm)


def test_merging_is_that_of_peft(mllm: InternVL) -> None:
    other = copy.deepcopy(mllm.model.model.language_model)
    add_lora(mllm, r=4, alpha=8)
    stir(mllm)
    names = [name for name, module in other.named_modules() if isinstance(module, nn.Linear)]
    theirs = get_peft_model(other, LoraConfig(r=4, lora_alpha=8, target_modules=names))
    theirs.base_model.model.load_state_dict(mllm.model.model.language_model.state_dict())
    expected = theirs.merge_and_unload().state_dict()
    live = {name: value.clone() for name, value in mllm.state_dict().items()}
    merged = merged_state_dict(mllm.model.model.language_model)
    assert merged.keys() == expected.keys()
    assert all(torch.equal(merged[name], value) for name, value in expected.items())
    assert all(torch.equal(mllm.state_dict()[name], value) for name, value in live.items())


def test_the_saved_folder_is_the_merged_model_and_takes_fresh_lora(tmp_path: Path) -> None:
    config = RefStreamConfig(
        mllm=dict(type="InternVL", config=MLLM), segmenter=dict(type="Sam2Segmenter", config=SAM2)
    )
    model = RefStreamModel(config, build_tiny_tokenizer(["the red circle"])).eval()
    plain = set(model.state_dict())
    add_lora(model.mllm, r=4, alpha=8)
    train_token_rows(model.mllm, "new")
    stir(model)
    nn.init.normal_(model.mllm.word_embeddings.rows)
    nn.init.normal_(model.mllm.model.lm_head.rows)
    loaded = RefStreamModel.from_pretrained(model.save(tmp_path / "m"))
    assert set(loaded.state_dict()) == plain
    assert torch.allclose(logits(loaded.mllm), logits(model.mllm), atol=1e-5)
    before = logits(loaded.mllm)
    add_lora(loaded.mllm, r=2, alpha=2)
    train_token_rows(loaded.mllm, "new")
    assert torch.allclose(logits(loaded.mllm), before, atol=1e-6)
    elsewhere = {name: value.clone() for name, value in loaded.state_dict().items()}
    stir(loaded)
    again = RefStreamModel.from_pretrained(loaded.save(tmp_path / "n", state=elsewhere))
    assert torch.allclose(logits(again.mllm), before, atol=1e-6)


def test_a_small_update_survives_a_bfloat16_base() -> None:
    layer = nn.Module()
    layer.part = nn.Linear(8, 8, bias=False)
    nn.init.ones_(layer.part.weight)
    holder = type("Holder", (), {"language_model": lambda self: layer})()
    layer.to(torch.bfloat16)
    add_lora(holder, r=1, alpha=1, dropout=0.0)
    lora = lora_layers(layer)["part"]
    for side, value in ((lora.lora_A, 1.0), (lora.lora_B, 2.0**-12)):
        side["default"].to(torch.float32)
        nn.init.constant_(side["default"].weight, value)
    merged = merged_state_dict(layer)["part.weight"]
    assert torch.equal(merged, torch.full((8, 8), 1 + 2.0**-12))


def test_adapters_travel_alone(mllm: InternVL) -> None:
    other = copy.deepcopy(mllm)
    add_lora(mllm, r=4)
    add_lora(other, r=4)
    stir(mllm)
    state = lora_state_dict(mllm)
    assert len(state) == 2 * len(lora_layers(mllm))
    load_lora(other, {name: value.clone() for name, value in state.items()})
    assert torch.equal(logits(other), logits(mllm))
    state.popitem()
    with pytest.raises(ValueError, match="do not fit"):
        load_lora(other, state)


def test_rows_of_new_tokens_are_trained_and_old_ones_do_not_move_a_bit(mllm: InternVL) -> None:
    before = logits(mllm)
    old = [module.weight.detach().clone() for module in mllm.vocabulary_modules()]
    train_token_rows(mllm, "new")
    assert torch.allclose(logits(mllm), before, atol=1e-6)
    optimizer = torch.optim.AdamW([p for p in mllm.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        logits(mllm).logsumexp(-1).sum().backward()
        optimizer.step()
    new = torch.tensor([mllm.tokenizer.get_vocab()[token] for token in ADDED_TOKENS])
    kept = torch.ones(len(old[0]), dtype=torch.bool)
    kept[new] = False
    merged = merged_state_dict(mllm.model)
    names = ("model.language_model.embed_tokens.weight", "lm_head.weight")
    for name, module, weight in zip(names, mllm.vocabulary_modules(), old, strict=True):
        assert torch.equal(merged[name][kept], weight[kept])
        assert (merged[name][new] != weight[new]).any(1).all()
        assert torch.equal(module.weight, merged[name])
        states = optimizer.state[module.rows]
        assert states["exp_avg"].shape == (len(ADDED_TOKENS), 32)


def test_rows_give_what_the_whole_matrix_gives(mllm: InternVL) -> None:
    whole = copy.deepcopy(mllm)
    train_token_rows(mllm, "new")
    train_token_rows(whole, "all")
    for model in (mllm, whole):
        logits(model).logsumexp(-1).sum().backward()
    for part, full in zip(mllm.vocabulary_modules(), whole.vocabulary_modules(), strict=True):
        assert torch.allclose(part.rows.grad, full.weight.grad[part.ids], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("mode", "trained"), [("all", True), ("frozen", False)])
def test_all_rows_or_none(mllm: InternVL, mode: str, trained: bool) -> None:
    train_token_rows(mllm, mode)  # type: ignore[arg-type]
    assert [module.weight.requires_grad for module in mllm.vocabulary_modules()] == [trained] * 2
    with pytest.raises(ValueError, match="'new', 'all' or 'frozen'"):
        train_token_rows(mllm, "some")  # type: ignore[arg-type]
