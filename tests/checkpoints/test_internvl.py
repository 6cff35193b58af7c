"""Key maps and configurations of InternVL checkpoints."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import InternVLConfig, InternVLForConditionalGeneration

from refstream.checkpoints import internvl as layout

LLM = {
    "1B": {"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "intermediate_size": 4864},
    "4B": {
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "intermediate_size": 11008,
    },
}


def written_config(size: str = "1B") -> dict:
    """A config.json as OpenGVLab writes it: what equals a class default is missing."""
    return {
        "model_type": "internvl_chat",
        "ps_version": "v2",
        "force_image_size": 448,
        "llm_config": {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            **LLM[size],
            "num_key_value_heads": 2,
            "rope_theta": 1000000.0,
            "rope_scaling": {"type": "dynamic", "factor": 2.0},
            "vocab_size": 151674,
        },
        "vision_config": {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "image_size": 448,
            "norm_type": "layer_norm",
            "qk_normalization": False,
            "qkv_bias": True,
        },
    }


def key_list(golden: Path, name: str) -> dict[str, Tensor]:
    """A public key list as empty tensors."""
    with gzip.open(golden / "checkpoint_keys" / f"{name}.json.gz", "rt") as file:
        keys = json.load(file)
    return {
        key: torch.empty(entry["shape"], dtype=getattr(torch, entry["dtype"]), device="meta")
        for key, entry in keys.items()
    }


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("size", ["1B", "4B"])
def test_public_key_lists_map_exactly_both_ways(golden: Path, size: str) -> None:
    public = key_list(golden, f"InternVL2_5-{size}")
    with torch.device("meta"):
        model = InternVLForConditionalGeneration(InternVLConfig(**layout.native_config(written_config(size))))
    native = layout.to_native(public)
    assert shapes(native) == shapes(model.state_dict())
    assert shapes(layout.to_original(model.state_dict())) == shapes(public)


def test_values_survive_the_round_trip() -> None:
    generator = torch.Generator().manual_seed(3)
    original = {
        "vision_model.encoder.layers.0.attn.qkv.weight": torch.randn(12, 4, generator=generator),
        "vision_model.encoder.layers.0.attn.qkv.bias": torch.randn(12, generator=generator),
        "vision_model.encoder.layers.0.ls1": torch.randn(4, generator=generator),
        "language_model.lm_head.weight": torch.randn(5, 4, generator=generator),
    }
    native = layout.to_native(original)
    block = "model.vision_tower.encoder.layer.0.attention"
    assert torch.equal(native[f"{block}.k_proj.weight"], original[next(iter(original))][4:8])
    back = layout.to_original(native)
    assert set(back) == set(original)
    assert all(torch.equal(back[key], original[key]) for key in original)
    with pytest.raises(ValueError, match="k_proj"):
        layout.to_original({f"{block}.q_proj.weight": torch.zeros(4, 4)})


def test_missing_keys_mean_the_defaults_of_the_writing_classes() -> None:
    written = written_config()
    del written["llm_config"]["rope_theta"]
    native = layout.native_config(written)
    assert native["text_config"]["rope_parameters"] == {"rope_type": "default", "rope_theta": 10000.0}
    assert native["text_config"]["rms_norm_eps"] == 1e-6
    assert native["text_config"]["max_position_embeddings"] == 32768
    assert native["vision_config"]["patch_size"] == 14
    assert native["tie_word_embeddings"] is False
    assert native["text_config"]["tie_word_embeddings"] is False


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("vision_config", "qk_normalization", True),
        ("vision_config", "qk_normalization", None),  # missing means the 6 B tower's True
        ("vision_config", "norm_type", None),
        ("vision_config", "image_size", 224),
        ("llm_config", "architectures", ["InternLM2ForCausalLM"]),
        ("llm_config", "use_sliding_window", True),
        ("llm_config", "rope_scaling", {"type": "yarn"}),
        (None, "ps_version", "v1"),
        (None, "ps_version", None),
        (None, "select_layer", -4),
    ],
)
def test_unknown_variants_are_refused_by_name(part: str | None, key: str, value: object) -> None:
    written = copy.deepcopy(written_config())
    target = written if part is None else written[part]
    if value is None:
        del target[key]
    else:
        target[key] = value
    with pytest.raises(ValueError, match=key):
        layout.native_config(written)


def test_configuration_round_trip() -> None:
    native = InternVLConfig(**layout.native_config(written_config("4B")))
    again = layout.native_config(layout.original_config(native.to_dict()))
    assert again == layout.native_config(written_config("4B"))


def test_older_native_folders() -> None:
    old = ("language_model.model.norm.weight", "language_model.lm_head.weight", "vision_tower.x", "lm_head.y")
    new = layout.modernise_native({key: torch.zeros(1) for key in old})
    assert set(new) == {
        "model.language_model.norm.weight",
        "lm_head.weight",
        "model.vision_tower.x",
        "lm_head.y",
    }


def test_new_rows_are_the_mean_and_a_tied_head_is_copied() -> None:
    embedding = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    state = layout.untie_head({"model.language_model.embed_tokens.weight": embedding})
    assert torch.equal(state["lm_head.weight"], embedding)
    assert state["lm_head.weight"].data_ptr() != embedding.data_ptr()
    grown = layout.grow_vocabulary(state, 4)
    for weight in grown.values():
        assert weight.tolist() == [[1.0, 2.0], [3.0, 6.0], [2.0, 4.0], [2.0, 4.0]]
    assert layout.grow_rows(embedding, 1) is embedding
