"""What mmengine's Runner trains: a RefStream model with a learner on top."""

from __future__ import annotations

import copy
import fnmatch
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from refstream.data.collate import ClipBatch
from refstream.engine.sources import (
    NEW_TOKENIZER,
    NEW_TOKENIZERS,
    STREAM_TOKENIZER,
    load_original,
    load_part,
    missing_weights,
)
from refstream.models.initialisation import initialise_mllm, initialise_segmenter
from refstream.models.mllm.lora import add_lora
from refstream.models.mllm.token_rows import RowMode, train_token_rows
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.modeling import RefStreamConfig, RefStreamModel
from refstream.models.segmenter.sam2 import Sam2Segmenter
from refstream.registry import LEARNERS, MODELS, import_methods
from refstream.synthetic.expressions import all_words
from refstream.synthetic.streams_words import all_stream_words

DTYPES = {None: None, "bfloat16": torch.bfloat16}


@MODELS.register_module()
class TrainingModel(BaseModel):
    """A model and its learner, with what is trained, in which precision, and where weights come from.

    Weights are drawn, then taken from ``init_from``, then from ``sources``; a learner that has a method
    ``prepare(model)`` may then change some of them (the rows of new tokens); then adapters are added.

    Args:
        model: Keys of ``RefStreamConfig``: ``mllm``, ``segmenter``, ``head``, ``pipeline``; without segmenter
            and head a model that only speaks.
        learner: Config from ``LEARNERS``; ``hidden_size`` is filled in where the learner takes it.
        tokenizer: Folder of a tokenizer, "minirvos" for a new one of MiniRVOS' words, or "minirvos_streams"
            for one that has those of its streams as well.
        initialise: Options of ``initialise_mllm`` and ``initialise_segmenter``, under ``mllm`` and
            ``segmenter``. A segmenter of another kind than SAM2 keeps the weights that it has drawn.
        init_from: Original weights: ``mllm`` (InternVL folder) and ``segmenter`` (file or folder of SAM2, or
            a folder of SAM 1).
        sources: Folders of earlier stages: (folder, pattern of the keys to take) pairs; later ones win.
        trainable: Patterns of parameter names that are trained; all others are frozen.
        lora: Options of ``add_lora``; None for none. With it the rest of the language model is frozen.
        token_rows: "new", "all" or "frozen" rows of the vocabulary, see ``train_token_rows``; None leaves
            them to ``trainable``.
        gradient_checkpointing: Recompute the language model's layers instead of keeping their activations.
        autocast: "bfloat16" runs matrix products in it, on CPU and GPU; weights, gradients and losses stay
            float32. None runs everything in the dtype of the weights.
        frozen_dtype: Type in which frozen matrices are held, "bfloat16" or None for as they are; vectors
            (norms, biases) and the position tables of the segmenter stay as they are.

    Raises:
        FileNotFoundError: Naming every missing file of weights, before anything is built.
        ValueError: For keys that contradict each other or the model.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        learner: Mapping[str, Any],
        tokenizer: str = NEW_TOKENIZER,
        initialise: Mapping[str, Mapping[str, Any]] | None = None,
        init_from: Mapping[str, str] | None = None,
        sources: Sequence[tuple[str, str]] = (),
        trainable: Sequence[str] = ("*",),
        lora: Mapping[str, Any] | None = None,
        token_rows: RowMode | None = None,
        gradient_checkpointing: bool = False,
        autocast: str | None = None,
        frozen_dtype: str | None = None,
    ) -> None:
        super().__init__()
        if autocast not in DTYPES or frozen_dtype not in DTYPES:
            raise ValueError(
                "autocast and frozen_dtype must be None or 'bfloat16' (float16 would need a loss scale), got "
                f"{autocast!r} and {frozen_dtype!r}"
            )
        missing = missing_weights(init_from, sources, tokenizer)
        if missing:
            raise FileNotFoundError("weights are missing: " + "; ".join(missing))
        import_methods()
        self.model = build_model(model, tokenizer)
        if initialise is not None:
            initialise_mllm(self.model.mllm, **initialise.get("mllm", {}))
            if isinstance(self.model.segmenter, Sam2Segmenter) or "segmenter" in initialise:
                initialise_segmenter(self.model.segmenter, **initialise.get("segmenter", {}))
        load_original(self.model, init_from or {})
        for folder, pattern in sources:
            load_part(self.model, folder, pattern)
        self.learner = build_learner(learner, self.model.mllm.hidden_size)
        if hasattr(self.learner, "prepare"):
            self.learner.prepare(self.model)
        freeze_all_but(self.model, trainable)
        if lora is not None:
            add_lora(self.model.mllm, **lora)
        if token_rows is not None:
            train_token_rows(self.model.mllm, token_rows)
        if gradient_checkpointing:
            self.model.mllm.checkpoint_gradients()
        self.autocast = DTYPES[autocast]
        if frozen_dtype is not None:
            hold_frozen(self.model, torch.bfloat16)

    def init_weights(self) -> None:
        """Nothing: weights are made or loaded by the constructor, and mmengine must not draw them anew."""

    def forward(self, batch: ClipBatch, mode: str = "loss") -> dict[str, Tensor]:
        """Losses and statistics of a batch; mmengine's other modes do not exist here.

        Raises:
            ValueError: For another mode than "loss".
        """
        if mode != "loss":
            raise ValueError(
                f"the training model computes losses only, not {mode!r}; evaluate an exported model"
            )
        device, enabled = self.model.mllm.device.type, self.autocast is not None
        with torch.autocast(device, dtype=self.autocast, enabled=enabled):
            return self.learner.losses(self.model, batch)


def build_model(config: Mapping[str, Any], tokenizer: str = NEW_TOKENIZER) -> RefStreamModel:
    """A ``RefStreamModel`` with fresh weights; see ``TrainingModel`` for the arguments."""
    known: Any = tokenizer
    if tokenizer in NEW_TOKENIZERS:
        further = all_stream_words() if tokenizer == STREAM_TOKENIZER else []
        known = build_tiny_tokenizer([*all_words(), *further])
    return RefStreamModel(RefStreamConfig(**copy.deepcopy(dict(config))), known)


def outline(config: Mapping[str, Any]) -> TrainingModel:
    """The training model of a config on the meta device: names, shapes and dtypes without memory or weights.

    No file of weights is needed. Where the tokenizer's folder is missing, a small one takes its place; sizes
    do not change, as long as the config names those of the vocabulary.
    """
    keys = {key: value for key, value in config.items() if key not in ("init_from", "sources", "initialise")}
    if keys.get("tokenizer") not in NEW_TOKENIZERS and not Path(keys.get("tokenizer", "")).is_dir():
        keys["tokenizer"] = NEW_TOKENIZER
    with torch.device("meta"):
        return MODELS.build(keys)


def build_learner(config: Mapping[str, Any], hidden_size: int) -> Any:
    """Build from ``LEARNERS``; one that has layers of its own is told the hidden size."""
    kind = LEARNERS.get(config["type"])
    if kind is None:
        raise ValueError(f"unknown learner {config['type']!r}; known are {sorted(LEARNERS.module_dict)}")
    keys = dict(copy.deepcopy(dict(config)))
    if "hidden_size" in inspect.signature(kind).parameters:
        keys.setdefault("hidden_size", hidden_size)
    return LEARNERS.build(keys)


def freeze_all_but(model: nn.Module, patterns: Sequence[str]) -> None:
    """Only parameters whose name matches one of the patterns (shell style) are trained.

    Raises:
        ValueError: If a pattern matches nothing.
    """
    names = [name for name, _ in model.named_parameters()]
    idle = [pattern for pattern in patterns if not fnmatch.filter(names, pattern)]
    if idle:
        raise ValueError(f"no parameter is named {idle}; names look like {names[:3]}")
    for name, parameter in model.named_parameters():
        wanted = any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
        parameter.requires_grad_(wanted and "positional_embedding" not in name)


def hold_frozen(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast frozen matrices to ``dtype``, in place; vectors and position tables keep theirs."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and parameter.ndim > 1 and "positional_embedding" not in name:
            parameter.data = parameter.data.to(dtype)
