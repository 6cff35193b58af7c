"""From a training config and one of its checkpoints to a model folder that inference loads."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import load_file
from torch import Tensor

from refstream.checkpoints.safe import load_state
from refstream.checkpoints.writing import MAX_SHARD_SIZE
from refstream.engine.card import CARD, model_card
from refstream.engine.checkpoint_files import MANIFEST, find_last_good, verify
from refstream.engine.export import export_model, with_aliases
from refstream.engine.state import frozen_names
from refstream.errors import UserError
from refstream.registry import MODELS, import_methods

logger = logging.getLogger(__name__)

MODEL_FILE = "model.safetensors"
STEP = re.compile(r"(iter|epoch)_(\d+)")


@dataclass(frozen=True)
class LoadReport:
    """Where each tensor of the training model came from.

    Attributes:
        checkpoint: The file or folder that was read.
        trained: Tensors that were trained, all from the checkpoint.
        frozen: Frozen tensors that the checkpoint holds too.
        from_config: Frozen tensors that it does not hold: as the config's sources give them.
    """

    checkpoint: Path
    trained: int
    frozen: int
    from_config: int

    def __str__(self) -> str:
        return (
            f"{self.checkpoint}: {self.trained} trained and {self.frozen} frozen tensors from it, "
            f"{self.from_config} frozen ones from the config's sources, none missing, none left over"
        )


def convert(
    config: Any,
    checkpoint: str | Path,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = torch.float32,
    layout: str = "refstream",
    config_name: str = "",
    results: Mapping[str, Any] | None = None,
    licence: str | None = None,
    max_shard_size: int | str = MAX_SHARD_SIZE,
) -> LoadReport:
    """Write the model that a config trained, adapters merged, with its tokenizer and its page.

    Args:
        config: A training config, as ``load_config`` gives it.
        checkpoint: See ``find_checkpoint``.
        folder: New, or empty.
        dtype: Storage type of floating weights; None keeps those of training.
        layout: ``refstream``, or ``sa2va`` for the keys of Sa2VA's released models.
        config_name: For the page: where the config lies.
        results: For the page: what ``refstream eval --publish`` wrote.
        licence: For the page; None says that it follows from base and data.
        max_shard_size: Larger weights are cut into several files.

    Raises:
        UserError: If ``folder`` is not empty, or there is no checkpoint.
        ValueError: If the checkpoint does not fit the config's model, naming what is missing or left over.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not an empty folder; choose another")
    place = find_checkpoint(checkpoint)
    training = build_training(config)
    report = load_trained(training, read_checkpoint(place), place)
    logger.info("%s", report)
    page = model_card(
        training.model,
        config,
        folder.name,
        config_name,
        checkpoint=place,
        layout=layout,
        results=results,
        licence=licence,
    )
    files = {CARD: page}
    export_model(
        training.model, folder, dtype=dtype, layout=layout, files=files, max_shard_size=max_shard_size
    )
    return report


def build_training(config: Any) -> Any:
    """The config's ``TrainingModel`` on the CPU, in eval mode, with the weights of its sources."""
    import_methods()
    return MODELS.build(config.model).eval()


def rebuild(config: Any, state: Mapping[str, Tensor], device: str | torch.device) -> Any:
    """A whole copy of a training model, in eval mode, from its consolidated state.

    Args:
        config: That the run was built from.
        state: Under the training model's own names, nothing missing.
        device: Where the copy goes.
    """
    training = build_training(config)
    load_trained(training, state, Path("the live model"))
    return training.to(device)


# ---------------------------------------------------------------- reading


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint that a path means.

    Args:
        path: A checkpoint folder of RefStream (``iter_00000500``, also of a run whose states were divided), a
            ``.pth`` of mmengine, or a work directory, whose last good checkpoint is taken.

    Raises:
        UserError: If there is none, or it is one that DeepSpeed wrote alone.
        CheckpointError: If the named folder is damaged.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"no checkpoint at {path}; expected iter_NNN, a .pth file, or a work directory")
    if (path / MANIFEST).is_file():
        verify(path)
        return path
    found = find_last_good(path)
    if found is not None:
        return found
    steps = [(int(match[2]), p) for p in path.glob("*.pth") if (match := STEP.match(p.name))]
    if steps:
        return find_checkpoint(max(steps)[1])
    if any(path.glob("*_states.pt")):
        raise UserError(
            f"{path} holds DeepSpeed's files without RefStream's {MANIFEST}: joining them means unpickling, "
            "which RefStream does not do; train with ShardedCheckpointHook, or export with ExportHook"
        )
    raise UserError(f"{path} holds no checkpoint; expected folders iter_NNN or files iter_NNN.pth")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint, under the names of the training model; runs no code of it.

    Args:
        path: From ``find_checkpoint``.

    Raises:
        ValueError: If it is corrupt, or holds more than tensors and mmengine's own records.
    """
    if (path / MANIFEST).is_file():
        return load_file(path / MODEL_FILE)
    with _mmengine_records():
        return load_state(path)


@contextmanager
def _mmengine_records() -> Iterator[None]:
    """Inside, ``weights_only`` loading also takes the loss curves that mmengine keeps in its checkpoints."""
    kinds = {type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")}
    rebuilders: list[Any] = [value.__reduce__()[0] for value in (np.zeros(0), np.float64(0))]
    curves = [HistoryBuffer, (_curve_method, "builtins.getattr")]
    with torch.serialization.safe_globals([*curves, np.ndarray, np.dtype, *rebuilders, *kinds]):
        yield


def _curve_method(owner: Any, name: str) -> Any:
    """What stands for ``getattr`` in a checkpoint: a statistic of mmengine's curves, and nothing else."""
    if owner is not HistoryBuffer or name not in HistoryBuffer._statistics_methods:
        raise pickle.UnpicklingError(f"the checkpoint asks for {name!r} of {owner!r}")
    return HistoryBuffer._statistics_methods[name]


def load_trained(training: Any, state: Mapping[str, Tensor], what: Path) -> LoadReport:
    """Copy a checkpoint into a training model: all that is trained must be there, nothing may be left over.

    Args:
        training: A ``TrainingModel``.
        state: Under its names; frozen parameters may be left out.
        what: Names the checkpoint in messages.

    Raises:
        ValueError: Naming missing, unexpected and mis-shaped tensors; nothing is copied then.
    """
    own, frozen = training.state_dict(), frozen_names(training)
    full = with_aliases(training, state)
    problems = {
        "missing though trained": [name for name in own if name not in full and name not in frozen],
        "not in the config's model": [name for name in full if name not in own],
        "of another shape": [
            f"{name} {tuple(full[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in full and full[name].shape != own[name].shape
        ],
    }
    if any(problems.values()):
        said = "; ".join(f"{len(n)} {why}: {', '.join(n[:5])}" for why, n in problems.items() if n)
        raise ValueError(f"{what} is no checkpoint of this config; {said}")
    with torch.no_grad():
        for name in own:
            if name in full:
                own[name].copy_(full[name])
    given = [name for name in own if name in full]
    held = sum(name in frozen for name in given)
    return LoadReport(what, len(given) - held, held, len(own) - len(given))
