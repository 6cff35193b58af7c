"""A run of a tenth of a second: linear layers with dropout and a frozen part, through mmengine's Runner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

from refstream.data import sampler
from refstream.engine import loops, signals

USED = (sampler, loops, signals)  # imported to register what is named below


@dataclass(frozen=True)
class Batch:
    """Rows with what a ``ClipBatch`` has for the loop."""

    rows: Tensor
    sample_ids: list[str]
    totals: Mapping[str, float] = field(default_factory=dict)


class Rows(Dataset[tuple[int, Tensor]]):
    """Row ``draw`` of an endless stream."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, draw: int) -> tuple[int, Tensor]:
        return draw, torch.randn(4, generator=torch.Generator().manual_seed(draw))


def collate(items: list[tuple[int, Tensor]]) -> dict[str, Batch]:
    """As the training engine joins samples."""
    return {"batch": Batch(torch.stack([row for _, row in items]), [str(draw) for draw, _ in items])}


class Learner:
    """Sums of squares over rows of positive first entry, divided by their number."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def counts(self, model: nn.Module, batch: Batch) -> dict[str, int]:
        """How many rows count."""
        return {"rows": int((batch.rows[:, 0] > 0).sum())}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The loss, divided by the totals where there are some."""
        chosen = batch.rows[batch.rows[:, 0] > 0]
        count = batch.totals["rows"] if batch.totals else max(len(chosen), 1)
        return {"loss": model(chosen).square().sum() / count}

    def state_dict(self) -> dict[str, Any]:
        """What a learner without layers keeps."""
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.seen = state["seen"]


class SmallModel(BaseModel):
    """What ``TrainingModel`` is to the engine: ``model`` and ``learner``."""

    def __init__(self, dropout: float = 0.3, width: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        frozen = nn.Linear(4, 4).requires_grad_(False)
        self.model = nn.Sequential(frozen, nn.Linear(4, width), nn.Dropout(dropout), nn.Linear(width, 1))
        self.learner = Learner()

    def init_weights(self) -> None:
        """Nothing: drawn above."""

    def forward(self, batch: Batch, mode: str = "loss") -> dict[str, Tensor]:
        """Losses of a batch."""
        self.learner.seen += batch.sample_ids
        return self.learner.losses(self.model, batch)


def small_runner(work_dir: Path, model: nn.Module | None = None, **options: Any) -> Runner:
    """A Runner of ``SmallModel``.

    Args:
        work_dir: Of the run.
        model: Another model.
        options: ``iters``, ``window``, ``batch_size``, ``workers``, ``sampler``, ``checkpoint`` (keys of the
            hook), ``hooks``, ``optimizer``, ``schedule``.
    """
    keys = dict(iters=8, window=2, batch_size=2, workers=0, sampler="DrawSampler", checkpoint={}, hooks=[])
    keys |= dict(optimizer=dict(type="AdamW", lr=1e-2))
    keys |= dict(schedule=[dict(type="CosineAnnealingLR", T_max=8, by_epoch=False)])
    keys |= options
    return Runner(
        model=model or SmallModel(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=keys["batch_size"],
            num_workers=keys["workers"],
            dataset=Rows(),
            sampler=dict(type=keys["sampler"]),
            collate_fn=dict(type=collate),
        ),
        train_cfg=dict(type="StepTrainLoop", max_iters=keys["iters"]),
        optim_wrapper=dict(
            type="OptimWrapper",
            optimizer=keys["optimizer"],
            accumulative_counts=keys["window"],
        ),
        param_scheduler=keys["schedule"],
        default_hooks=dict(
            checkpoint=dict(
                type="CheckpointFolderHook", **{"interval": 2, "max_keep": None, **keys["checkpoint"]}
            ),
            logger=dict(type="LoggerHook", interval=1000),
        ),
        custom_hooks=keys["hooks"],
        randomness=dict(seed=1),
        default_scope="refstream",
        experiment_name=f"{work_dir.name}",
        log_level="ERROR",
        cfg=Config(),
    )
