"""What mmengine's Runner trains: a RefStream model with a learner on top."""

from __future__ import annotations

import copy
import fnmatch
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from refstream.checkpoints.safe import load_state
from refstream.data.collate import ClipBatch
from refstream.models.initialisation import initialise_mllm, initialise_segmenter
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.modeling import RefStreamConfig, RefStreamModel
from refstream.registry import LEARNERS, MODELS, import_methods
from refstream.synthetic.expressions import all_words

logger = logging.getLogger(__name__)


@MODELS.register_module()
class TrainingModel(BaseModel):
    """A model and its learner, with what is frozen and where weights come from.

    Args:
        model: Keys of ``RefStreamConfig``: ``mllm``, ``segmenter``, ``head``, ``pipeline``.
        learner: Config from ``LEARNERS``; ``hidden_size`` is filled in where the learner takes it.
        tokenizer: Folder of a tokenizer, or "minirvos" for a new one of MiniRVOS' words.
        initialise: Options of ``initialise_mllm`` and ``initialise_segmenter``, under ``mllm`` and
            ``segmenter``.
        sources: Folders of earlier stages: (folder, pattern of the keys to take) pairs; later ones win.
        trainable: Patterns of parameter names that are trained; all others are frozen.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        learner: Mapping[str, Any],
        tokenizer: str = "minirvos",
        initialise: Mapping[str, Mapping[str, Any]] | None = None,
        sources: Sequence[tuple[str, str]] = (),
        trainable: Sequence[str] = ("*",),
    ) -> None:
        super().__init__()
        import_methods()
        words = build_tiny_tokenizer(all_words()) if tokenizer == "minirvos" else tokenizer
        self.model = RefStreamModel(RefStreamConfig(**copy.deepcopy(dict(model))), words)
        if initialise is not None:
            initialise_mllm(self.model.mllm, **initialise.get("mllm", {}))
            initialise_segmenter(self.model.segmenter, **initialise.get("segmenter", {}))
        for folder, pattern in sources:
            load_part(self.model, folder, pattern)
        freeze_all_but(self.model, trainable)
        self.learner = build_learner(learner, self.model.mllm.hidden_size)

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
        return self.learner.losses(self.model, batch)


def build_learner(config: Mapping[str, Any], hidden_size: int) -> Any:
    """Build from ``LEARNERS``; one that has layers of its own is told the hidden size."""
    kind = LEARNERS.get(config["type"])
    if kind is None:
        raise ValueError(f"unknown learner {config['type']!r}; known are {sorted(LEARNERS.module_dict)}")
    keys = dict(copy.deepcopy(dict(config)))
    if issubclass(kind, nn.Module):
        keys.setdefault("hidden_size", hidden_size)
    return LEARNERS.build(keys)


def load_part(model: nn.Module, folder: str | Path, pattern: str) -> None:
    """Load those weights of a folder whose names match, strictly: the model must have all of them, in shape.

    Raises:
        ValueError: If nothing matches, or a matching name is missing in the model or of another shape there.
    """
    state = {
        name: value for name, value in load_state(Path(folder)).items() if fnmatch.fnmatch(name, pattern)
    }
    own = model.state_dict()
    wrong = [name for name, value in state.items() if name not in own or own[name].shape != value.shape]
    if not state or wrong:
        raise ValueError(
            f"{folder} has {len(state)} weights named {pattern!r}; of these the model cannot take {wrong[:5]}"
        )
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)
    logger.info("took %d weights %s from %s", len(state), pattern, folder)


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
