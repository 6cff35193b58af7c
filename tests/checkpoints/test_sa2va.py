"""Splitting and joining exports of the Sa2VA family."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import InternVLConfig, InternVLForConditionalGeneration, Sam2VideoModel

from refstream.checkpoints import sa2va as layout
from refstream.checkpoints.sam2 import SA2VA_PREFIX, meta_to_transformers
from refstream.models.heads.seg_token import SegTokenHead
from refstream.models.segmenter.sam2_config import config_from_dict

WIDTHS = {"1B": (896, 24, 14, 4864), "4B": (2048, 36, 16, 11008)}


def key_list(golden: Path, size: str) -> dict[str, Tensor]:
    with gzip.open(golden / "checkpoint_keys" / f"Sa2VA-{size}.json.gz", "rt") as file:
        keys = json.load(file)
    return {key: torch.empty(entry["shape"], device="meta") for key, entry in keys.items()}


def written_config(size: str) -> dict:
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return {
        "model_type": "sa2va_chat",
        "ps_version": "v2",
        "template": "qwen_chat",
        "llm_config": {
            "architectures": ["Qwen2ForCausalLM"],
            **dict(zip(names, WIDTHS[size], strict=True)),
            "num_key_value_heads": 2,
            "rope_theta": 1e6,
            "vocab_size": 151679,
        },
        "vision_config": {
            **dict(zip(names, (1024, 24, 16, 4096), strict=True)),
            "image_size": 448,
            "norm_type": "layer_norm",
            "qk_normalization": False,
            "qkv_bias": True,
        },
    }


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("size", ["1B", "4B"])
def test_public_key_lists_fill_the_three_parts_exactly(golden: Path, size: str) -> None:
    public, written = key_list(golden, size), written_config(size)
    parts = layout.split(public)
    assert parts.sam2_version == "2.0"
    segmenter = layout.segmenter_config(written, parts)
    assert segmenter == {"size": "large", "version": "2.0"}
    with torch.device("meta"):
        mllm = InternVLForConditionalGeneration(InternVLConfig(**layout.mllm_config(written)))
        head = SegTokenHead(WIDTHS[size][0], 256)
        sam2 = Sam2VideoModel(config_from_dict(segmenter))
    assert shapes(parts.mllm) == shapes(mllm.state_dict())
    assert shapes(parts.head) == shapes(head.state_dict())
    assert shapes(meta_to_transformers(parts.segmenter)) == shapes(sam2.state_dict())
    assert shapes(layout.join(parts)) == shapes(public)


def test_sam2_1_and_eight_added_tokens(golden: Path) -> None:
    public = key_list(golden, "1B")
    for name, shape in (
        ("no_obj_embed_spatial", (1, 64)),
        ("obj_ptr_tpos_proj.weight", (64, 256)),
        ("obj_ptr_tpos_proj.bias", (64,)),
    ):
        public[SA2VA_PREFIX + name] = torch.empty(shape, device="meta")
    for name in ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"):
        public[name] = torch.empty(151682, 896, device="meta")
    parts = layout.split(public)
    assert layout.segmenter_config({}, parts) == {"size": "large", "version": "2.1"}
    assert parts.mllm["lm_head.weight"].shape == (151682, 896)


def test_training_checkpoints_have_other_names(golden: Path) -> None:
    public = key_list(golden, "1B")
    training = {}
    for key, value in public.items():
        name = key.replace("g_weight", "gamma") if SA2VA_PREFIX in key else key
        is_mllm = key.startswith(("vision_model.", "language_model.", "mlp1."))
        training[layout.TRAINING_PREFIX + name if is_mllm else name] = value
    assert shapes(layout.join(layout.split(training))) == shapes(public)


def test_what_does_not_belong_is_refused(golden: Path) -> None:
    public = key_list(golden, "1B")
    with pytest.raises(ValueError, match="surprise"):
        layout.split({**public, "surprise.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="0 of text_hidden_fcs"):
        layout.split({key: value for key, value in public.items() if "text_hidden" not in key})
    with pytest.raises(ValueError, match=SA2VA_PREFIX):
        layout.split({key: value for key, value in public.items() if SA2VA_PREFIX not in key})


def test_configurations() -> None:
    written = written_config("1B")
    layout.check_config(written)
    assert layout.chat_template(written) == "qwen_chat"
    native = InternVLConfig(**layout.mllm_config(written)).to_dict()
    exported = layout.export_config(native, template="qwen_chat")
    assert "auto_map" not in exported
    assert layout.mllm_config(exported) == layout.mllm_config(written)
    with pytest.raises(ValueError, match="internlm2_chat"):
        layout.chat_template({"template": "internlm2_chat"})
    with pytest.raises(ValueError, match="internvl_chat"):
        layout.check_config({"model_type": "internvl_chat"})
    with pytest.raises(ValueError, match="Qwen-VL"):
        layout.check_config({"model_type": "sa2va_chat", "text_config": {}})
