"""Weights of earlier stages: parts by pattern, token rows by the token's text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from refstream.engine.sources import load_part
from refstream.models.mllm.tokenizer import build_tiny_tokenizer, load_tokenizer
from refstream.models.modeling import RefStreamConfig, RefStreamModel
from refstream.testing import small

MLLM = dict(small.MLLM, text_config=dict(small.MLLM["text_config"], vocab_size=512))


def model_of(words: list[str]) -> RefStreamModel:
    config = RefStreamConfig(
        mllm=dict(type="InternVL", config=MLLM), segmenter=dict(type="Sam2Segmenter", config=small.SAM2)
    )
    return RefStreamModel(config, build_tiny_tokenizer(words))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    return model_of(["the red circle", "zebra"]).save(tmp_path_factory.mktemp("source") / "m")


def test_token_rows_follow_the_text_of_the_token(source: Path) -> None:
    model = model_of(["a striped grey cat", "the red circle"])
    before = [module.weight.detach().clone() for module in model.mllm.vocabulary_modules()]
    taken = load_part(model, source, "mllm.*")
    old = RefStreamModel.from_pretrained(source)
    ours, theirs = model.mllm.tokenizer.get_vocab(), load_tokenizer(source).get_vocab()
    assert ours["Ġred"] != theirs["Ġred"]
    assert ours["[SEG]"] != theirs["[SEG]"]
    assert set(taken.new_tokens) == {"Ġstriped", "Ġgrey", "Ġcat"}
    assert "Ġzebra" in taken.lost_tokens
    assert "Ġred" not in taken.lost_tokens
    assert taken.token_rows == len(set(ours) & set(theirs))
    pairs = zip(model.mllm.vocabulary_modules(), old.mllm.vocabulary_modules(), before, strict=True)
    for module, other, initial in pairs:
        for token, row in ours.items():
            expected = other.weight[theirs[token]] if token in theirs else initial[row]
            assert torch.equal(module.weight[row], expected), token


def test_the_same_tokenizer_copies_every_row(source: Path) -> None:
    model = model_of(["the red circle", "zebra"])
    taken = load_part(model, source, "*")
    old = RefStreamModel.from_pretrained(source)
    assert taken.weights == len(old.state_dict())
    assert taken.new_tokens == taken.lost_tokens == ()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in old.state_dict().items())


def test_a_part_needs_no_tokenizer(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").unlink()
    model = model_of(["cat"])
    assert load_part(model, tmp_path, "segmenter.*").token_rows is None
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        load_part(model, tmp_path, "mllm.*")


def test_what_does_not_fit_is_refused(source: Path) -> None:
    config = RefStreamConfig(
        mllm=dict(type="InternVL", config=MLLM),
        segmenter=dict(type="Sam2Segmenter", config=dict(small.SAM2, hidden_dim=16)),
    )
    model = RefStreamModel(config, build_tiny_tokenizer(["the red circle", "zebra"]))
    with pytest.raises(ValueError, match="cannot take"):
        load_part(model, source, "segmenter.*")
    with pytest.raises(ValueError, match="has 0 weights named 'decoder"):
        load_part(model, source, "decoder.*")
