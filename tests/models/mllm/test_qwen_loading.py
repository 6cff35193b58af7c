"""Qwen2.5-VL folders as published, as ours, and as transformers writes them; tied and untied vocabularies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from refstream.models.mllm import PromptBuilder, QwenVL, build_tiny_tokenizer
from refstream.models.mllm.lora import add_lora
from refstream.models.mllm.token_rows import train_token_rows
from refstream.models.modeling import RefStreamConfig, RefStreamModel
from refstream.registry import MODELS
from tests.models.mllm.qwen_toys import (
    SIZE,
    build,
    images,
    same,
    stream,
    toy_config,
)


@pytest.fixture
def mllm() -> QwenVL:
    return build()


def published(mllm: QwenVL, folder: Path) -> dict[str, Tensor]:
    """The folder that Qwen would publish: flat config with ``rope_scaling``, ``visual.*`` and ``model.*``."""
    mllm.tokenizer.save_pretrained(folder)
    config = mllm.config.to_dict()
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    text.pop("model_type")
    text.pop("layer_types")
    vision = {k: v for k, v in config.pop("vision_config").items() if k not in ("rope_parameters", "dtype")}
    flat = {
        **config,
        **text,
        "vision_config": {**vision, "in_chans": 3, "model_type": "qwen2_5_vl"},
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
        "torch_dtype": "bfloat16",
        "auto_map": {"AutoModel": "evil.Model"},
    }
    (folder / "config.json").write_text(json.dumps(flat))
    state = {
        key.replace("model.visual.", "visual.").replace("model.language_model.", "model."): value.clone()
        for key, value in mllm.model.state_dict().items()
        if not (mllm.tied and key == "lm_head.weight")
    }
    save_file(state, folder / "model.safetensors")
    return state


@pytest.mark.parametrize("tied", [True, False])
def test_published_folders(tied: bool, tmp_path: Path) -> None:
    mllm = build(tied=tied)
    state = published(mllm, tmp_path)
    assert any(key.startswith("visual.") for key in state)
    loaded = QwenVL.from_pretrained(tmp_path, image_size=SIZE)
    assert loaded.dtype == torch.float32, "the dtype that a config states is not what the caller gets"
    assert (loaded.model.lm_head.weight is loaded.word_embeddings.weight) == tied
    same(mllm, loaded)
    half = QwenVL.from_pretrained(tmp_path, image_size=SIZE, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half.model.model.language_model.rotary_emb.inv_freq.dtype == torch.float32
    other = build(tied=tied, seed=1)
    other.load_original(tmp_path)
    same(mllm, other)


@pytest.mark.parametrize("tied", [True, False])
def test_own_folders(tied: bool, tmp_path: Path) -> None:
    mllm = build(tied=tied)
    mllm.save_pretrained(tmp_path / "ours")
    assert ("lm_head.weight" in load_file(tmp_path / "ours" / "model.safetensors")) == (not tied)
    same(mllm, QwenVL.from_pretrained(tmp_path / "ours", image_size=SIZE))


@pytest.mark.slow  # transformers' save_pretrained imports deepspeed
def test_folders_that_transformers_wrote(mllm: QwenVL, tmp_path: Path) -> None:
    theirs = Qwen2_5_VLForConditionalGeneration(mllm.config)
    theirs.load_state_dict(mllm.model.state_dict())
    theirs.save_pretrained(tmp_path / "theirs")
    mllm.tokenizer.save_pretrained(tmp_path / "theirs")
    same(mllm, QwenVL.from_pretrained(tmp_path / "theirs", image_size=SIZE))


def test_broken_folders_are_explained(mllm: QwenVL, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        QwenVL.from_pretrained(tmp_path)
    state = published(mllm, tmp_path)
    larger = QwenVL(toy_config(intermediate_size=64), mllm.tokenizer, image_size=SIZE)
    with pytest.raises(ValueError, match=r"text_config\.intermediate_size is 48, expected 64"):
        larger.load_original(tmp_path)
    with pytest.raises(ValueError, match="tie_word_embeddings"):
        QwenVL(toy_config(tied=False), mllm.tokenizer, image_size=SIZE).load_original(tmp_path)
    with pytest.raises(ValueError, match="tokens have other numbers"):
        QwenVL(toy_config(vocab_size=2000), build_tiny_tokenizer(["x"])).load_original(tmp_path)
    state.pop("visual.merger.ln_q.weight")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing: model\.visual\.merger\.ln_q\.weight"):
        QwenVL.from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "use_sliding_window": True}))
    with pytest.raises(ValueError, match="sliding_window"):
        QwenVL.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_vl"}))
    with pytest.raises(ValueError, match="'qwen2_vl', expected 'qwen2_5_vl'"):
        QwenVL.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="not a JSON object"):
        QwenVL.from_pretrained(tmp_path)


def test_built_by_name_and_rebuilt_from_what_is_saved(mllm: QwenVL, tmp_path: Path) -> None:
    mllm.tokenizer.save_pretrained(tmp_path)
    keys = dict(type="QwenVL", tokenizer=str(tmp_path), image_size=list(SIZE))
    rebuilt = MODELS.build(
        dict(
            keys,
            config=json.loads(json.dumps(mllm.config.to_dict())),
            prompts={k: v for k, v in mllm.prompts.options().items() if k != "num_image_tokens"},
        )
    ).eval()
    assert isinstance(rebuilt, QwenVL)
    assert rebuilt.prompts.image_markers == mllm.prompts.image_markers
    rebuilt.load_state_dict(mllm.state_dict())
    same(mllm, rebuilt)
    with pytest.raises(ValueError, match="multiples of 28 px"):
        MODELS.build(dict(keys, config=toy_config(), image_size=[224, 400]))
    with pytest.raises(ValueError, match="unknown size"):
        MODELS.build(dict(keys, config=dict(size="qwen2_5-vl-72b")))


@pytest.mark.parametrize("tied", [True, False])
def test_in_a_model_that_only_speaks(tied: bool, tmp_path: Path) -> None:
    """The composite saves a tied head twice and loads it as one."""
    torch.manual_seed(0)
    mllm = dict(type="QwenVL", config=toy_config(tied=tied), image_size=list(SIZE))
    model = RefStreamModel(RefStreamConfig(mllm=mllm), build_tiny_tokenizer(["red", "circle", "now"])).eval()
    model.save(tmp_path)
    loaded = RefStreamModel.from_pretrained(tmp_path)
    assert isinstance(loaded.mllm, QwenVL)
    assert (loaded.mllm.model.lm_head.weight is loaded.mllm.word_embeddings.weight) == tied
    assert loaded.mllm.image_size == SIZE
    same(model.mllm, loaded.mllm)


@pytest.mark.parametrize("tied", [True, False])
def test_vocabulary_grows_and_stays_tied(tied: bool) -> None:
    mllm = build(tied=tied)
    before = mllm.word_embeddings.weight.detach().clone()
    assert mllm.resize_vocabulary(["<new>", "[SEG]"]) == 1
    weight = mllm.word_embeddings.weight
    assert weight.shape[0] == mllm.model.lm_head.weight.shape[0] == len(before) + 1
    torch.testing.assert_close(weight[-1], before.mean(0))
    assert (mllm.model.lm_head.weight is weight) == tied
    mllm.to(torch.bfloat16).to(torch.float32)
    assert (mllm.model.lm_head.weight is mllm.word_embeddings.weight) == tied


def test_token_rows_part_a_tied_vocabulary(mllm: QwenVL) -> None:
    """Rows of two modules are trained, so the model is saved with two matrices, and says so."""
    train_token_rows(mllm, "new")
    assert not mllm.tied
    assert not mllm.config.to_dict()["tie_word_embeddings"]
    assert add_lora(mllm, r=2, alpha=4) == 2 * 7
    chat = mllm.prompts.turns([stream(1)])
    tokens = mllm.encode_images(mllm.preprocess(images(1)))
    assert torch.isfinite(mllm.forward_chat(chat, tokens, with_loss=True).loss)


@pytest.mark.parametrize(("name", "billions", "tied"), [("3b", 3.75, True), ("7b", 8.29, False)])
def test_released_sizes(name: str, billions: float, tied: bool) -> None:
    """Parameters as the model cards count them: 3.75 and 8.29 billion."""
    with torch.device("meta"):
        mllm = QwenVL(dict(size=f"qwen2_5-vl-{name}"), build_tiny_tokenizer(()))
    count = sum(parameter.numel() for parameter in mllm.parameters())
    assert count / 1e9 == pytest.approx(billions, abs=0.01)
    assert mllm.tied == tied
    assert mllm.num_image_tokens == 120
    assert isinstance(mllm.config, Qwen2_5_VLConfig)
    assert isinstance(mllm.prompts, PromptBuilder)
