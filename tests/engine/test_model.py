"""The training model: what is trained, where weights come from, learning rates per module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from safetensors.torch import save_file

from refstream.engine.model import TrainingModel, freeze_all_but, outline
from refstream.models.mllm.internvl import InternVL
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.segmenter.sam1 import Sam1Segmenter
from refstream.models.segmenter.sam2 import Sam2Segmenter
from refstream.registry import MODELS
from refstream.testing.small import SAM1

from .small import MLLM, SAM2, batch, training_keys

PROJECTOR = "mllm.model.model.multi_modal_projector.*"


def build(**keys: Any) -> TrainingModel:
    return MODELS.build(training_keys(**keys))


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_lora_rows_and_patterns_say_what_is_trained() -> None:
    training = build(trainable=[PROJECTOR, "head.*"], lora=dict(r=2, alpha=4), token_rows="new")
    names = trained(training.model)
    rows = {name for name in names if name.endswith(".rows")}
    lora = {name for name in names if ".lora_" in name}
    assert rows == {
        "mllm.model.lm_head.rows",
        "mllm.model.model.language_model.embed_tokens.rows",
    }
    assert len(lora) == 2 * 2 * 7
    rest = names - rows - lora
    assert {name.split(".")[0] for name in rest} == {"mllm", "head"}
    assert all(".multi_modal_projector." in name for name in rest if name.startswith("mllm."))
    losses = training(batch())
    sum(value for name, value in losses.items() if "loss" in name).backward()
    without = {n for n, p in training.model.named_parameters() if p.requires_grad and p.grad is None}
    assert not without
    assert all(p.grad is None for n, p in training.model.named_parameters() if n not in names)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients, calls = [], []
    for checkpointing in (False, True):
        torch.manual_seed(5)
        training = build(lora=dict(r=2, dropout=0.1), gradient_checkpointing=checkpointing).train()
        layer = training.model.mllm.language_model().layers[0].mlp
        calls.append(0)
        layer.register_forward_pre_hook(lambda *_: calls.append(calls.pop() + 1))
        torch.manual_seed(6)
        losses = training(batch())
        sum(value for name, value in losses.items() if "loss" in name).backward()
        gradients.append({n: p.grad for n, p in training.named_parameters() if p.grad is not None})
    plain, checkpointed = gradients
    assert calls[1] == 2 * calls[0]  # the layers ran again on the way back
    assert plain.keys() == checkpointed.keys()
    assert all(torch.allclose(plain[name], checkpointed[name], atol=1e-6) for name in plain)


def test_learning_rates_per_module() -> None:
    training = build(trainable=[PROJECTOR, "head.*", "segmenter.model.mask_decoder.*"], lora=dict(r=2))
    wrapper = build_optim_wrapper(
        training,
        dict(
            optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
            paramwise_cfg=dict(
                custom_keys={
                    "mask_decoder": dict(lr_mult=0.1),
                    "lora_": dict(lr_mult=2.0, decay_mult=0.0),
                }
            ),
        ),
    )
    names = {id(parameter): name for name, parameter in training.named_parameters()}
    seen = set()
    for group in wrapper.optimizer.param_groups:
        (parameter,) = group["params"]
        name = names[id(parameter)]
        seen.add(name)
        expected = (2e-3, 0.0) if ".lora_" in name else (1e-3, 0.05)
        expected = (1e-4, 0.05) if ".mask_decoder." in name else expected
        assert (group["lr"], group["weight_decay"]) == pytest.approx(expected), name
    assert seen == trained(training)


def test_initialise_leaves_another_segmenter_than_sam2_as_it_was_drawn() -> None:
    parts = dict(training_keys()["model"], segmenter=dict(type="Sam1Segmenter", config=SAM1))
    keys = dict(model=parts, initialise={"mllm": {}})
    torch.manual_seed(0)
    assert isinstance(build(**keys).model.segmenter, Sam1Segmenter)
    with pytest.raises(ValueError, match="prepares a Sam2Segmenter, got Sam1Segmenter"):
        build(**keys | {"initialise": {"segmenter": {}}})


@pytest.fixture
def originals(tmp_path: Path) -> dict[str, str]:
    """An InternVL folder as published, and a transformers folder of SAM2."""
    torch.manual_seed(11)
    mllm = InternVL(MLLM, build_tiny_tokenizer(["the red circle"]))
    mllm.save_pretrained(tmp_path / "InternVL")
    segmenter = Sam2Segmenter(SAM2)
    save_file(
        {name: value.contiguous().clone() for name, value in segmenter.model.state_dict().items()},
        tmp_path / "sam2.safetensors",
    )
    return dict(mllm=str(tmp_path / "InternVL"), segmenter=str(tmp_path / "sam2.safetensors"))


def test_original_weights_are_loaded(originals: dict[str, str]) -> None:
    training = build(init_from=originals, tokenizer=originals["mllm"], initialise=None)
    expected = InternVL.from_pretrained(originals["mllm"])
    state = training.model.mllm.state_dict()
    assert all(torch.equal(state[name], value) for name, value in expected.state_dict().items())
    other = Sam2Segmenter(SAM2, weights=originals["segmenter"])
    state = training.model.segmenter.state_dict()
    assert all(torch.equal(state[name], value) for name, value in other.state_dict().items())


def test_original_weights_of_another_size_are_refused(originals: dict[str, str]) -> None:
    file = Path(originals["mllm"]) / "config.json"
    config = json.loads(file.read_text())
    config["text_config"]["rms_norm_eps"] = 0.5  # not to be seen in any shape
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"rms_norm_eps is 0\.5"):
        build(init_from=originals, tokenizer=originals["mllm"], initialise=None)
    with pytest.raises(ValueError, match="init_from takes"):
        build(init_from=dict(head=originals["mllm"]))


def test_a_foreign_tokenizer_is_refused(originals: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="tokens have other numbers"):
        build(init_from=dict(mllm=originals["mllm"]))


def test_missing_weights_are_named_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refstream.engine.model.build_model", lambda *_: pytest.fail("was built"))
    wanted = dict(mllm="pretrained/none/InternVL2_5-1B", segmenter="pretrained/none/sam2.1_hiera_large.pt")
    with pytest.raises(FileNotFoundError) as error:
        build(init_from=wanted, sources=[("work_dirs/none/export", "*")])
    for word in (*wanted.values(), "huggingface.co/OpenGVLab/InternVL2_5-1B", "092824", "train none first"):
        assert word in str(error.value)


def test_an_outline_has_the_same_parameters_and_no_memory() -> None:
    keys = training_keys(
        trainable=[PROJECTOR], lora=dict(r=2), token_rows="new", frozen_dtype="bfloat16", autocast="bfloat16"
    )
    real, meta = MODELS.build(keys), outline(keys)
    assert {p.device.type for p in meta.parameters()} == {"meta"}
    shapes = [
        {n: (p.shape, p.dtype, p.requires_grad) for n, p in model.named_parameters()}
        for model in (real, meta)
    ]
    assert shapes[0] == shapes[1]


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter is named"):
        freeze_all_but(torch.nn.Linear(2, 2), ["weight", "scale"])


def test_only_losses_are_computed() -> None:
    with pytest.raises(ValueError, match="losses only"):
        build()(batch(), mode="predict")
