"""Loading, saving and running released exports; numbers are compared in tests/parity."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from refstream.checkpoints import sa2va as layout
from refstream.models.mllm import tokens as T
from refstream.models.mllm.lora import add_lora, lora_layers
from refstream.models.random_init import random_model
from refstream.models.sa2va import Sa2VAOffline, exported_parts, load_sa2va, save_sa2va


@pytest.fixture
def export(golden: Path) -> Path:
    return golden / "sa2va" / "model"


def copy_of(export: Path, folder: Path) -> Path:
    return Path(shutil.copytree(export, folder / "export"))


def test_five_tokens_have_no_context_slot(export: Path) -> None:
    model = load_sa2va(export)
    assert not model.mllm.prompts.with_context
    assert len(model.mllm.tokenizer) == model.mllm.config.text_config.vocab_size == 357
    chat = model.mllm.prompts.referring(["the round shape"])
    assert chat.context_positions.shape == (1, 0)
    assert model.segmenter.model.config.enable_occlusion_spatial_embedding is False


def test_saved_exports_are_the_released_ones(export: Path, tmp_path: Path) -> None:
    model = load_sa2va(export)
    save_sa2va(model, tmp_path / "saved")
    released = load_file(export / "model.safetensors")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert set(saved) == set(released)
    assert all(torch.equal(saved[key], released[key].float()) for key in released)
    again = load_sa2va(tmp_path / "saved")
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


def test_eight_tokens_and_sam2_1(export: Path, tmp_path: Path) -> None:
    """What StreamingRVOS' export code writes: three more tokens and SAM 2.1."""
    model = load_sa2va(export)
    model.mllm.resize_vocabulary(T.ADDED_TOKENS)
    folder = save_sa2va(model, tmp_path / "eight")
    state = load_file(folder / "model.safetensors")
    memory, hidden = 8, 32
    prefix = "grounding_encoder.sam2_model."
    state |= {
        f"{prefix}no_obj_embed_spatial": torch.zeros(1, memory),
        f"{prefix}obj_ptr_tpos_proj.weight": torch.zeros(memory, hidden),
        f"{prefix}obj_ptr_tpos_proj.bias": torch.zeros(memory),
    }
    save_file(state, folder / "model.safetensors")
    loaded = load_sa2va(folder)
    assert loaded.mllm.prompts.with_context
    assert T.token_id(loaded.mllm.tokenizer, T.TIME_CONTEXT) == 357
    assert loaded.segmenter.model.config.enable_occlusion_spatial_embedding is True
    assert loaded.mllm.prompts.referring(["a"]).context_positions.shape == (1, 1)


@pytest.mark.parametrize(("size", "layers"), [("1B", 24), pytest.param("4B", 36, marks=pytest.mark.slow)])
def test_a_trained_model_of_real_size_has_the_released_keys(golden: Path, size: str, layers: int) -> None:
    """With LoRA in it, and the other vocabulary: on the meta device, so by names and shapes."""
    with torch.device("meta"):
        model = random_model(f"internvl2_5-{size.lower()}+sam2-large", device="meta")
        assert add_lora(model.mllm, r=128, alpha=256) == 7 * layers
    exported = layout.join(exported_parts(model))
    with gzip.open(golden / "checkpoint_keys" / f"Sa2VA-{size}.json.gz", "rt") as file:
        released = json.load(file)
    assert set(exported) == set(released)
    vocabulary = {"language_model.model.embed_tokens.weight", "language_model.lm_head.weight"}
    different = {key for key, value in exported.items() if list(value.shape) != released[key]["shape"]}
    assert different <= vocabulary


def test_adapters_and_prompts_survive_the_layout(export: Path, tmp_path: Path) -> None:
    model = load_sa2va(export)
    model.config.pipeline = {"type": "StreamingRVOS", "max_tiles": 1}
    model.mllm.prompts.lowercase = not model.mllm.prompts.lowercase
    add_lora(model.mllm, r=2, alpha=4)
    for layer in lora_layers(model).values():
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.05)
    again = load_sa2va(save_sa2va(model, tmp_path / "m"), pipeline={"type": "Other"})
    assert again.config.pipeline == model.config.pipeline
    assert again.prompt_options() == model.prompt_options()
    chat = model.chat(["the round shape"])
    pixels = model.mllm.preprocess([np.zeros((40, 40, 3), dtype=np.uint8)])
    states = [m.mllm.forward_chat(chat, m.mllm.encode_images(pixels)).hidden for m in (model, again)]
    assert torch.allclose(*states, atol=1e-5)
    bare = load_sa2va(export)
    assert not torch.allclose(bare.mllm.forward_chat(chat, bare.mllm.encode_images(pixels)).hidden, states[0])


def test_broken_exports_are_explained(export: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Sa2VA export"):
        load_sa2va(tmp_path)
    folder = copy_of(export, tmp_path)
    state = load_file(folder / "model.safetensors")
    state.pop("language_model.model.norm.weight")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"language_model\.norm\.weight"):
        load_sa2va(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "template": "internlm2_chat"}))
    with pytest.raises(ValueError, match="internlm2_chat"):
        load_sa2va(folder)


def test_offline_frames(export: Path) -> None:
    model = load_sa2va(export, compatible=True)
    offline = Sa2VAOffline(model, num_prompt_frames=2, prompt_frames="uniform", max_new_tokens=8)
    frames = list(np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), dtype=np.uint8))
    answer = offline.video(frames, "Please segment the round shape.")
    assert answer.masks.shape[1:] == (4, 20, 30)
    assert len(answer.masks) == len(answer.prompts) == len(answer.seg_states)
    assert offline._chosen(4) == [0, 3]
    assert offline._chosen(1) == [0]
    with pytest.raises(ValueError, match="one size"):
        offline.video([frames[0], frames[1][:10]], "x")
    with pytest.raises(ValueError, match="at least one frame"):
        offline.video([], "x")
    with pytest.raises(ValueError, match="'first' or 'uniform'"):
        Sa2VAOffline(model, prompt_frames="last")  # type: ignore[arg-type]
