"""Tokenizers without remote code: loading them from a folder, and building a tiny one.

The tiny tokenizer knows whole words and falls back to bytes: each corpus word is one token, with and without
the space before it; any other text becomes one token per UTF-8 byte, so that nothing is ever unknown or lost.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

from refstream.models.mllm.templates import ANSWERS, QUESTION, QUESTIONS, REPROMPT
from refstream.models.mllm.tokens import ADDED_TOKENS, CHAT_TOKENS, END_OF_TEXT, IMAGE_TOKENS, SEG, TURN_END

logger = logging.getLogger(__name__)

TEMPLATE_TEXTS = ("system", "user", "assistant", QUESTION, REPROMPT, *QUESTIONS, *ANSWERS)
_SPLIT = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]|\s"


def build_tiny_tokenizer(corpus_words: Iterable[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer with byte fallback and RefStream's special tokens.

    Args:
        corpus_words: Words or sentences; they are split as text is, and every piece becomes a token. The
            words of the chat template and its questions and answers are always included.

    Returns:
        A tokenizer that ``save_pretrained`` / :func:`load_tokenizer` carry without remote code. Vocabulary:
        256 bytes, words in order of first appearance, chat and image tokens, the eight added tokens.
    """
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    vocabulary = {byte: index for index, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    template = (text.replace("{expression}", " ").replace(SEG, " ") for text in TEMPLATE_TEXTS)
    for text in (*template, *corpus_words):
        normalised = normalizers.NFC().normalize_str(text.strip())
        for spaced in (f" {normalised}", normalised):
            for piece, _ in splitter.pre_tokenize_str(spaced):
                vocabulary.setdefault(piece, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in (*CHAT_TOKENS, *IMAGE_TOKENS, *ADDED_TOKENS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model folder; never runs code from it.

    Args:
        folder: Holds ``tokenizer_config.json`` and ``tokenizer.json`` (or ``vocab.json``, ``merges.txt``).

    Raises:
        FileNotFoundError: if these files are missing.
        ValueError: if the tokenizer is of a kind that RefStream does not know.
    """
    folder = Path(folder)
    settings_file = folder / "tokenizer_config.json"
    has_words = (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    has_json = (folder / "tokenizer.json").is_file()
    if not settings_file.is_file() or not (has_json or has_words):
        raise FileNotFoundError(
            f"no tokenizer in {folder}: expected tokenizer_config.json and tokenizer.json (or vocab.json "
            "with merges.txt); download the complete model folder"
        )
    name = json.loads(settings_file.read_text(encoding="utf-8")).get("tokenizer_class", "")
    if name in ("Qwen2Tokenizer", "Qwen2TokenizerFast"):
        return Qwen2Tokenizer.from_pretrained(folder)
    if has_json and name in ("PreTrainedTokenizerFast", "TokenizersBackend", ""):
        return PreTrainedTokenizerFast.from_pretrained(folder)
    raise ValueError(
        f"tokenizer class {name!r} in {settings_file} is not supported; RefStream reads Qwen2 tokenizers "
        "(InternVL2.5 1B/4B, InternVL3, Sa2VA) and its own PreTrainedTokenizerFast folders"
    )
