"""The composite: MLLM + head + segmenter, or an MLLM alone. A transformers model outside: folders travel."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from refstream.checkpoints.safe import load_state, load_strict
from refstream.checkpoints.writing import MAX_SHARD_SIZE, save_state
from refstream.models.composite import SegComposite
from refstream.models.mllm.lora import merged_state_dict
from refstream.registry import HEADS, MODELS, import_methods


class RefStreamConfig(PretrainedConfig):
    """What a RefStream folder's config.json holds: registered type names and sizes, never a module path.

    Args:
        mllm: ``type`` and ``config`` of the MLLM, with its options (``prompts``).
        segmenter: ``type`` and ``config`` of the segmenter, with its options; empty for a model that only
            speaks.
        head: ``type`` of the head; its sizes follow from the two. Not without a segmenter.
        pipeline: ``type`` of the streaming pipeline (the method) and its keys.
    """

    model_type = "refstream"

    def __init__(
        self,
        mllm: dict[str, Any] | None = None,
        segmenter: dict[str, Any] | None = None,
        head: dict[str, Any] | None = None,
        pipeline: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.mllm = mllm or {}
        self.segmenter = segmenter or {}
        self.head = head or (dict(type="SegTokenHead") if self.segmenter else {})
        self.pipeline = pipeline or {}
        super().__init__(**kwargs)


class RefStreamModel(SegComposite, PreTrainedModel):
    """MLLM, head and segmenter side by side; the methods' pipelines and learners drive them.

    Args:
        config: See ``RefStreamConfig``.
        tokenizer: Tokenizer of the MLLM, or the folder that holds it.

    Attributes:
        segmenter, head: None in a model that only speaks.

    Raises:
        ValueError: For a head without a segmenter.
    """

    config_class = RefStreamConfig

    def __init__(self, config: RefStreamConfig, tokenizer: Any) -> None:
        super().__init__(config)
        self.mllm = MODELS.build(dict(copy.deepcopy(config.mllm), tokenizer=tokenizer))
        self.segmenter = self.head = None
        if config.segmenter:
            self.segmenter = MODELS.build(copy.deepcopy(config.segmenter))
            self.head = HEADS.build(
                dict(config.head, hidden_size=self.mllm.hidden_size, prompt_dim=self.segmenter.prompt_dim)
            )
        elif config.head:
            raise ValueError(f"head {config.head.get('type')!r} prompts a segmenter, and the config has none")

    def init_weights(self) -> None:
        """Nothing: the parts drew their weights when built, and mmengine must not draw them again."""

    def save(
        self,
        folder: str | Path,
        *,
        dtype: torch.dtype | None = None,
        state: Mapping[str, Tensor] | None = None,
        max_shard_size: int | str = MAX_SHARD_SIZE,
    ) -> Path:
        """Write config.json, the weights and the tokenizer; ``load`` reads them back.

        Adapters are merged in what is written, and stay as they are in the live model.

        Args:
            folder: Created if missing.
            dtype: Storage type of floating weights; None keeps them.
            state: This model's state dict where its weights lie elsewhere (spread over several processes).
            max_shard_size: Larger weights are cut into several files, see ``save_state``.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = copy.deepcopy(self.config)
        config.mllm = dict(config.mllm, config=self.mllm.config.to_dict(), prompts=self.prompt_options())
        if self.segmenter is not None:
            config.segmenter = dict(config.segmenter, config=self.segmenter.config.to_dict())
        config.mllm.pop("init_word_embeddings_std", None)
        config.save_pretrained(folder)
        self.mllm.tokenizer.save_pretrained(folder)
        save_state(merged_state_dict(self, state), folder, dtype=dtype, max_shard_size=max_shard_size)
        return folder

    def prompt_options(self) -> dict[str, Any]:
        """How questions are worded: the options of the MLLM's ``PromptBuilder`` that a config states."""
        options = self.mllm.prompts.options()
        options.pop("num_image_tokens")
        return options

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:  # type: ignore[override]
        """transformers' name for ``save``."""
        self.save(save_directory)

    @classmethod
    def from_pretrained(cls, path: str | Path, *args: Any, **kwargs: Any) -> RefStreamModel:  # type: ignore[override]
        """Load a RefStream folder strictly: every key must be there, none may be left over.

        Args:
            path: Folder written by ``save``.
            dtype: (keyword) floating type of the weights in memory, float32 by default.
            device: (keyword) default "cpu".

        Raises:
            FileNotFoundError: If config.json or the weights are missing.
            ValueError: If keys are missing, left over or of another shape.
        """
        folder = Path(path)
        import_methods()
        config = kwargs.get("config") or RefStreamConfig.from_pretrained(folder)
        with skip_init():
            model = cls(config, folder)
        state = load_state(folder)
        load_strict(
            model, {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, str(folder)
        )
        return model.to(kwargs.get("device", "cpu"), kwargs.get("dtype") or torch.float32).eval()


@contextlib.contextmanager
def skip_init() -> Iterator[None]:
    """Build modules without drawing random weights that a checkpoint would overwrite at once."""
    from transformers.initialization import no_init_weights

    with no_init_weights():
        yield


AutoConfig.register("refstream", RefStreamConfig)
AutoModel.register(RefStreamConfig, RefStreamModel)
