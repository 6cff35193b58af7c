"""A model without a segmenter: built, trained by name, saved, loaded, and clear about what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import refstream
from refstream.engine.model import TrainingModel
from refstream.errors import UserError
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.modeling import RefStreamConfig, RefStreamModel
from refstream.models.sa2va import save_sa2va
from refstream.streaming.features import FrameFeatures
from refstream.structures import Frame
from refstream.testing.small import MLLM, SAM2

SPEAKER = dict(type="InternVL", config=MLLM)


@pytest.fixture(scope="module")
def model() -> RefStreamModel:
    torch.manual_seed(1)
    return RefStreamModel(RefStreamConfig(mllm=SPEAKER), build_tiny_tokenizer(["the light"])).eval()


def test_it_comes_back(model: RefStreamModel, tmp_path: Path) -> None:
    again = refstream.load(model.save(tmp_path / "m"))
    assert again.segmenter is again.head is None
    assert {name.split(".")[0] for name, _ in again.named_parameters()} == {"mllm"}
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    written = json.loads((tmp_path / "m" / "config.json").read_text())
    assert written["segmenter"] == written["head"] == {}
    said = [
        m.mllm.forward_chat(m.mllm.prompts.text([[("the light", "yes")]]), None).hidden
        for m in (model, again)
    ]
    assert torch.equal(*said)


def test_a_head_needs_a_segmenter() -> None:
    with pytest.raises(ValueError, match=r"SegTokenHead.*prompts a segmenter"):
        RefStreamModel(
            RefStreamConfig(mllm=SPEAKER, head=dict(type="SegTokenHead")), build_tiny_tokenizer([])
        )
    assert RefStreamConfig(segmenter=dict(type="Sam2Segmenter")).head == dict(type="SegTokenHead")


def test_what_it_cannot_do(model: RefStreamModel, tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    for attempt in (
        lambda: model.image_features([image]),
        lambda: FrameFeatures(model, Frame(0, 0.0, image)).segmenter,
        lambda: save_sa2va(model, tmp_path / "s"),
    ):
        with pytest.raises(UserError, match="no segmenter"):
            attempt()


class Preparing:
    """A learner that changes the model before anything is frozen."""

    def prepare(self, model: RefStreamModel) -> None:
        assert all(p.requires_grad for p in model.parameters())
        with torch.no_grad():
            model.mllm.word_embeddings.weight.zero_()


def test_it_is_trained_as_others_are(tmp_path: Path) -> None:
    from refstream.registry import LEARNERS

    LEARNERS.register_module(module=Preparing, force=True)
    keys = dict(mllm=SPEAKER)
    training = TrainingModel(
        keys,
        dict(type="Preparing"),
        initialise={},
        trainable=["mllm.model.lm_head.*"],
        tokenizer="minirvos_streams",
    )
    assert training.model.mllm.word_embeddings.weight.abs().max() == 0
    assert {n for n, p in training.model.named_parameters() if p.requires_grad} == {
        "mllm.model.lm_head.weight"
    }
    assert " comes" in {
        training.model.mllm.tokenizer.decode([i]) for i in range(len(training.model.mllm.tokenizer))
    }
    (tmp_path / "sam2.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="model has none"):
        TrainingModel(keys, dict(type="Preparing"), init_from=dict(segmenter=str(tmp_path / "sam2.pt")))
    both = dict(keys, segmenter=dict(type="Sam2Segmenter", config=SAM2))
    assert TrainingModel(both, dict(type="Preparing")).model.head is not None
