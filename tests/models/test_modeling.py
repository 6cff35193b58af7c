"""The composite: saving, loading, and what a damaged or foreign folder says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

import refstream
from refstream.errors import UserError
from refstream.models.random_init import random_model
from refstream.structures import Frame
from refstream.testing import small_model

PIPELINE = dict(type="StreamingRVOS", gate=dict(type="EveryKGate", k=2))


def masks(model: Any) -> tuple[list[np.ndarray], list[float]]:
    session = refstream.StreamSession(model.pipeline())
    session.open(["the red circle", "Blue"])
    rng = np.random.default_rng(0)
    frames = [Frame(i, i / 10, rng.integers(0, 255, (48, 70, 3), dtype=np.uint8)) for i in range(3)]
    events = [e for f in frames for e in session.step(f)]
    return [e.mask for e in events], [e.pred_iou for e in events]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    return small_model(PIPELINE).save(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_a_saved_model_comes_back(folder: Path) -> None:
    model, again = refstream.load(folder), refstream.load(folder)
    assert not model.mllm.prompts.lowercase
    assert model.pipeline().gate.k == 2
    assert model.mllm.model.lm_head.weight is not model.mllm.word_embeddings.weight  # untied
    first, second = masks(model), masks(again)
    assert all((a == b).all() for a, b in zip(first[0], second[0], strict=True))
    assert first[1] == second[1]
    auto = masks(AutoModel.from_pretrained(folder))
    assert first[1] == auto[1]


def test_the_folder_names_registered_types_and_no_module_path(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    config = json.loads(text)
    assert config["pipeline"]["type"] == "StreamingRVOS"
    assert "refstream." not in text
    assert "auto_map" not in config


def test_storage_in_half_precision(folder: Path, tmp_path: Path) -> None:
    refstream.load(folder).save(tmp_path / "half", dtype=torch.float16)
    state = load_file(tmp_path / "half" / "model.safetensors")
    assert {v.dtype for v in state.values() if v.is_floating_point()} == {torch.float16}
    assert next(refstream.load(tmp_path / "half").parameters()).dtype == torch.float32


def test_missing_and_extra_keys_are_named(copy: Path) -> None:
    file = copy / "model.safetensors"
    state = load_file(file)
    lost = state.pop("head.layers.2.bias")
    save_file(state, file)
    with pytest.raises(ValueError, match=r"head\.layers\.2\.bias"):
        refstream.load(copy)
    save_file({**state, "head.layers.2.bias": lost, "head.extra": lost.clone()}, file)
    with pytest.raises(ValueError, match=r"head\.extra"):
        refstream.load(copy)
    save_file({**state, "head.layers.2.bias": lost[:3].clone()}, file)
    with pytest.raises(ValueError, match=r"head\.layers\.2\.bias"):
        refstream.load(copy)


def test_truncated_weights(copy: Path) -> None:
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="truncated"):
        refstream.load(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        ('{"model_type": "llava"}', "loads 'refstream' and 'sa2va_chat'"),
    ],
)
def test_foreign_folders(copy: Path, content: str, message: str) -> None:
    (copy / "config.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        refstream.load(copy)


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no model folder"):
        refstream.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        refstream.load(tmp_path)


def test_an_unknown_method_is_named(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["pipeline"]["type"] = "Nowhere"
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"'Nowhere'.*StreamingRVOS"):
        refstream.load(copy).pipeline()


def test_a_key_that_the_pipeline_does_not_take_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"StreamingRVOS takes no \['window'\]; its keys are .*'gate'"):
        refstream.load(folder).pipeline(window=3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_no_cuda(folder: Path) -> None:
    with pytest.raises(ValueError, match="no CUDA device"):
        refstream.load(folder, device="cuda")


def test_bfloat16_keeps_rotary_tables_and_gives_float32_logits(folder: Path) -> None:
    model = refstream.load(folder, dtype=torch.bfloat16)
    tables = [b for n, b in model.mllm.named_buffers() if n.endswith("inv_freq")]
    assert tables
    assert {b.dtype for b in tables} == {torch.float32}
    image = np.zeros((48, 70, 3), np.uint8)
    (tokens,), features = model.vision_tokens([image]), model.image_features([image])
    states, _ = model.force_seg(["the red circle"], tokens)
    prediction = model.segmenter.decode(features, model.head(states[0][None]))
    assert prediction.mask_logits.dtype == torch.float32


def test_wrong_sizes_for_random_weights() -> None:
    with pytest.raises(ValueError, match="unknown sizes 'gpt'"):
        random_model("gpt")
    with pytest.raises(ValueError, match=r"sam2\.1-large"):
        random_model("internvl2_5-1b+sam2.1-huge")
