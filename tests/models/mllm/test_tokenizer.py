"""The tiny tokenizer and loading without remote code."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from refstream.models.mllm import build_tiny_tokenizer, load_tokenizer
from refstream.models.mllm import tokens as T


def test_words_are_one_token_and_all_else_is_kept() -> None:
    tokenizer = build_tiny_tokenizer(["circle", "red"])
    assert len(tokenizer.encode("red circle circle")) == 3
    assert len(tokenizer.encode("circus")) == 6
    generator = random.Random(1)
    for _ in range(200):
        text = "".join(chr(generator.randrange(1, 0xD7FF)) for _ in range(8))
        normal = tokenizer.backend_tokenizer.normalizer.normalize_str(text)
        assert tokenizer.decode(tokenizer.encode(text)) == normal


def test_special_tokens_in_order() -> None:
    tokenizer = build_tiny_tokenizer(["circle"])
    ids = [T.token_id(tokenizer, token) for token in T.ADDED_TOKENS]
    assert ids == list(range(len(tokenizer) - 8, len(tokenizer)))
    assert (
        *("[SEG]", "<p>", "</p>", "<vp>", "</vp>"),
        *("<TIME_CONTEXT>", "<context>", "</context>"),
    ) == T.ADDED_TOKENS
    assert T.add_special_tokens(tokenizer) == 0
    assert T.token_id(tokenizer, "<absent>") is None


def test_save_and_load(tmp_path: Path) -> None:
    tokenizer = build_tiny_tokenizer(["circle"])
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert len(loaded) == len(tokenizer)
    for text in ("the circle [SEG]é", "<img><IMG_CONTEXT></img>\n12"):
        assert loaded.encode(text) == tokenizer.encode(text)
    assert loaded.pad_token == T.END_OF_TEXT
    assert loaded.eos_token == T.TURN_END


def test_qwen_folders_with_and_without_tokenizer_json(golden: Path, tmp_path: Path) -> None:
    folder = golden / "sa2va" / "model"
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json"):
        shutil.copy(folder / name, tmp_path)
    whole, parts = load_tokenizer(folder), load_tokenizer(tmp_path)
    text = "Please segment it, isn't it 12?\n[SEG]<IMG_CONTEXT>"
    assert whole.encode(text) == parts.encode(text)
    assert T.token_id(whole, "[SEG]") == T.token_id(parts, "[SEG]") == 352


def test_added_tokens_that_were_ordinary_become_special() -> None:
    tokenizer = build_tiny_tokenizer(["circle"])
    tokenizer.add_tokens(["<extra>"])
    assert T.add_special_tokens(tokenizer, ("<extra>",)) == 0
    index = T.token_id(tokenizer, "<extra>")
    assert tokenizer.added_tokens_decoder[index].special


def test_unknown_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tokenizer_config\.json"):
        load_tokenizer(tmp_path)
    build_tiny_tokenizer([]).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "InternLM2Tokenizer"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="InternLM2Tokenizer"):
        load_tokenizer(tmp_path)
