"""InternVL against values computed with the original modules (``tests/golden/internvl``)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import DynamicCache

from refstream.checkpoints.internvl import native_config, to_native
from refstream.models.mllm import InternVL, build_tiny_tokenizer
from refstream.models.mllm.generation import generate_greedy

TOLERANCE = {"atol": 2e-4, "rtol": 1e-5}  # case.json


@pytest.fixture(scope="module")
def case(golden: Path) -> dict:
    return json.loads((golden / "internvl" / "case.json").read_text())


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, Tensor]:
    with np.load(golden / "internvl" / "io.npz") as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored}


@pytest.fixture(scope="module")
def mllm(golden: Path, case: dict) -> InternVL:
    """The toy model through the same path as a released folder: original config and keys."""
    vision, text = case["vision_config"], case["llm_config"]
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    written = {
        "ps_version": case["projector"]["ps_version"],
        "vision_config": {
            **{
                name: vision[name]
                for name in (*names, "image_size", "patch_size", "qkv_bias", "qk_normalization")
            },
            "norm_type": "layer_norm",
        },
        "llm_config": {
            "architectures": ["Qwen2ForCausalLM"],
            **{n: text[n] for n in (*names, "num_key_value_heads", "vocab_size", "max_position_embeddings")},
            "rope_theta": text["rope_theta"],
        },
    }
    state = {k: v.float() for k, v in load_file(golden / "internvl" / "weights.safetensors").items()}
    # the case has no tokenizer: another one appends its own rows, behind the 331 of the case
    tokenizer = build_tiny_tokenizer(())
    config = native_config(written)
    model = InternVL.from_state(config, to_native(state), tokenizer)
    assert model.num_image_tokens == 16
    return model


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, **TOLERANCE)


@pytest.mark.parametrize("size", ["native", "resized"])
@torch.no_grad()
def test_vision(mllm: InternVL, arrays: dict[str, Tensor], size: str) -> None:
    tower = mllm.model.model.vision_tower
    pixels = arrays[f"vit_{size}_pixels"]
    embeddings = tower.embeddings(pixels)
    close(embeddings, arrays[f"vit_{size}_embeddings"])
    close(tower.encoder.layer[0](embeddings), arrays[f"vit_{size}_layer1"])
    close(tower(pixels).last_hidden_state, arrays[f"vit_{size}_last"])
    close(mllm.encode_images(pixels), arrays[f"vit_{size}_projected"])


def test_pixel_shuffle(mllm: InternVL, arrays: dict[str, Tensor]) -> None:
    shuffled = mllm.model.model.pixel_shuffle(arrays["shuffle_in"], scale_factor=0.5)
    assert torch.equal(shuffled, arrays["shuffle_out_v2"])
    assert not torch.equal(shuffled, arrays["shuffle_out_v1"])


@torch.no_grad()
def test_prompt_embeddings(mllm: InternVL, arrays: dict[str, Tensor], case: dict) -> None:
    ids = arrays["lm_input_ids"]
    chat = chat_of(ids, case["image_token_id"])
    close(mllm.embed(chat, arrays["vit_native_projected"]), arrays["lm_input_embeds"])


@torch.no_grad()
def test_language_model(mllm: InternVL, arrays: dict[str, Tensor], case: dict) -> None:
    chat = chat_of(arrays["lm_input_ids"], case["image_token_id"])
    output = mllm.forward_chat(chat, arrays["vit_native_projected"], with_logits=True)
    close(output.hidden, arrays["lm_hidden_final_normed"])
    close(output.logits[..., :331], arrays["lm_logits"])


@torch.no_grad()
def test_layers_cache_and_steps(mllm: InternVL, arrays: dict[str, Tensor]) -> None:
    language = mllm.model.model.language_model
    cache = DynamicCache(config=mllm.config.text_config)
    out = language(
        inputs_embeds=arrays["lm_input_embeds"],
        past_key_values=cache,
        use_cache=True,
        output_hidden_states=True,
    )
    for layer in range(3):
        close(out.hidden_states[layer], arrays[f"lm_hidden_{layer}"])
    for layer in (0, 2):
        close(cache.layers[layer].keys, arrays[f"lm_cache_k_layer{layer}"])
        close(cache.layers[layer].values, arrays[f"lm_cache_v_layer{layer}"])
    logits = []
    for step in range(3):
        ids = arrays["lm_step_ids"][:, step : step + 1]
        out = language(input_ids=ids, past_key_values=cache, use_cache=True)
        logits.append(mllm.model.lm_head(out.last_hidden_state)[..., :331])
    close(torch.cat(logits, dim=1), arrays["lm_step_logits"])


@torch.no_grad()
def test_left_padding(mllm: InternVL, arrays: dict[str, Tensor]) -> None:
    mask = arrays["batch_mask"]
    out = mllm.model.model.language_model(
        input_ids=arrays["batch_ids"],
        attention_mask=mask,
        position_ids=arrays["batch_position_ids"],
        use_cache=False,
    )
    logits = mllm.model.lm_head(out.last_hidden_state)[..., :331]
    close(logits[mask.bool()], arrays["batch_logits"][mask.bool()])


@torch.no_grad()
def test_right_padding_gives_the_same_as_left_padding(mllm: InternVL, arrays: dict[str, Tensor]) -> None:
    ids, mask = arrays["batch_ids"], arrays["batch_mask"].bool()
    right = torch.zeros_like(ids)
    for row in range(2):
        kept = ids[row][mask[row]]
        right[row, : len(kept)] = kept
    logits = mllm.forward_chat(chat_of(right, image_token=-1), None, with_logits=True).logits[..., :331]
    for row in range(2):
        close(logits[row, : mask[row].sum()], arrays["batch_logits"][row][mask[row]])


@torch.no_grad()
def test_far_positions(mllm: InternVL, arrays: dict[str, Tensor]) -> None:
    out = mllm.model.model.language_model(
        input_ids=arrays["far_ids"], position_ids=arrays["far_position_ids"], use_cache=False
    )
    close(mllm.model.lm_head(out.last_hidden_state)[..., :331], arrays["far_logits"])


def test_greedy_generation(mllm: InternVL, arrays: dict[str, Tensor]) -> None:
    answer = generate_greedy(mllm, arrays["lm_input_embeds"], max_new_tokens=12, stop_ids=())
    assert answer.ids.tolist() == arrays["greedy_ids"][0].tolist()
    assert answer.hidden.shape == (11, 64)
    close(answer.prompt_hidden, arrays["lm_hidden_final_normed"][0, -1])


def test_every_array_is_compared(arrays: dict[str, Tensor]) -> None:
    source = Path(__file__).read_text()
    for name in arrays:
        stem = name.replace("_native_", "_{size}_").replace("_resized_", "_{size}_")
        numbered = name[:-1] + "{layer}"
        assert any(f'"{n}"' in source for n in (name, stem, numbered)), f"{name} is not compared"


def chat_of(ids: Tensor, image_token: int):
    from refstream.models.mllm.chat import ChatTokens

    return ChatTokens(
        input_ids=ids,
        attention_mask=torch.ones_like(ids, dtype=torch.bool),
        labels=torch.full_like(ids, -100),
        image_positions=ids == image_token,
        context_positions=torch.full((ids.shape[0], 0), -1),
        seg_positions=torch.full((ids.shape[0],), -1),
    )
