"""Real runs of a very small model on drawn squares: two iterations in well under a second."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

import refstream
from refstream.data.collate import ClipSample
from refstream.engine.train import build_runner
from refstream.registry import DATASETS
from refstream.testing import moving_square_video

from .processes import small_config


@DATASETS.register_module(force=True)
class Squares:
    """Clips of two moving squares, in colours drawn by the sample's generator."""

    def __len__(self) -> int:
        return 8

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        colours = tuple(str(colour) for colour in rng.permutation(["red", "blue", "yellow"])[:2])
        frames, masks = moving_square_video(2, colours=colours)
        clip = np.stack([frame.image for frame in frames])
        return ClipSample(clip, [f"the {c} square" for c in colours], masks, f"squares {index} {colours}")


def squares_config(
    hooks: Sequence[dict[str, Any]] = (), *, iters: int = 2, save: bool = False, **changes: Any
) -> Config:
    """The small config on squares, with the given hooks alone; dotted keys replace values."""
    config = small_config(**{"train_cfg.max_iters": iters, **changes})
    config.train_dataloader.dataset = dict(type="Squares")
    config.custom_hooks = list(hooks)
    config.default_hooks.checkpoint = dict(type="CheckpointFolderHook", interval=0, save_last=save)
    return config


def trained(config: Config, folder: Path) -> Any:
    """The runner of a config, after training."""
    runner = build_runner(config, folder)
    runner.train()
    return runner


def lines(folder: Path) -> list[dict[str, Any]]:
    """What ``log.jsonl`` holds."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def mask_logits(model: Any) -> torch.Tensor:
    """(3, h, w) logits of the live pipeline's decodings of two queries and three frames, in order."""
    found: list[torch.Tensor] = []
    decode = model.segmenter.decode

    def recording(*args: Any, **keys: Any) -> Any:
        prediction = decode(*args, **keys)
        found.append(prediction.mask_logits.clone())
        return prediction

    model.segmenter.decode = recording
    try:
        session = refstream.StreamSession(model.eval().pipeline())
        session.open(["the red square", "the blue square"])
        for frame in moving_square_video(3)[0]:
            session.step(frame)
    finally:
        model.segmenter.decode = decode
    return torch.cat(found)
