"""Hooks and parts that RefStream adds to mmengine's Runner."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from refstream.data.collate import collate_clips
from refstream.data.datasets.minirvos import to_sample
from refstream.models.masks import mask_ious
from refstream.registry import HOOKS
from refstream.structures import ImageFeatures, SegPrompt
from refstream.synthetic.minirvos import MiniRVOS


def training_model(runner: Any) -> Any:
    """The runner's ``TrainingModel``, unwrapped."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@register_backend("AtomicLocalBackend")
class AtomicLocalBackend(LocalBackend):
    """Files appear complete or not at all, so that a killed run leaves its last checkpoint intact."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write to a neighbour, then rename."""
        target = Path(filepath)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        with partial.open("wb") as file:
            file.write(obj)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)


@HOOKS.register_module()
class ExportHook(Hook):
    """Write the trained model as a RefStream folder.

    Args:
        folder: Where to; None means ``export`` in the work directory. Each export replaces the one before.
        interval: Iterations between two exports; 0 exports at the end only.
        dtype: Storage type of floating weights, "float32", "float16" or "bfloat16".
    """

    priority = "VERY_LOW"

    def __init__(self, folder: str | None = None, interval: int = 0, dtype: str = "float32") -> None:
        self.folder, self.interval, self.dtype = folder, interval, getattr(torch, dtype)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Export if it is time."""
        if self.interval and self.every_n_train_iters(runner, self.interval):
            self._export(runner)

    def after_train(self, runner: Any) -> None:
        """Export the final weights."""
        self._export(runner)

    def _export(self, runner: Any) -> None:
        if runner.rank == 0:
            folder = self.folder or Path(runner.work_dir) / "export"
            training_model(runner).model.save(folder, dtype=self.dtype)
            runner.logger.info(f"exported iteration {runner.iter} to {folder}")


@HOOKS.register_module()
class JsonLinesHook(Hook):
    """Append the mean of every logged number since the last line to ``log.jsonl`` in the work directory.

    Args:
        interval: Iterations per line.
    """

    priority = "LOW"

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._sums: dict[str, float] = {}
        self._count = 0
        self._start = time.perf_counter()

    def before_train(self, runner: Any) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Add up; write when the interval is full."""
        for name, value in (outputs or {}).items():
            self._sums[name] = self._sums.get(name, 0.0) + float(
                value.detach() if isinstance(value, torch.Tensor) else value
            )
        self._count += 1
        if runner.rank != 0 or not self.every_n_train_iters(runner, self.interval):
            return
        line = {
            "iter": runner.iter + 1,
            "seconds": round(time.perf_counter() - self._start, 1),
            "lr": runner.optim_wrapper.get_lr()["lr"][0],
            **{name: round(total / self._count, 5) for name, total in self._sums.items()},
        }
        write_line(Path(runner.work_dir) / "log.jsonl", line)
        self._sums, self._count = {}, 0


@HOOKS.register_module()
class ReferringProbeHook(Hook):
    """Mask IoU on single frames of another split, for the right and for shuffled expressions.

    The mean over expressions of the IoU in one frame: a curve for the log, not a benchmark.

    Args:
        interval: Iterations between two probes.
        split: Of MiniRVOS.
        num_stills: Frames.
        expressions: Most expressions of a frame.
    """

    priority = "LOW"

    def __init__(
        self, interval: int = 250, split: str = "val", num_stills: int = 96, expressions: int = 4
    ) -> None:
        self.interval, self.num_stills, self.expressions = interval, num_stills, expressions
        self.source = MiniRVOS(split, seed=0)  # type: ignore[arg-type]

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Write ``probe_<family>`` and ``probe_shuffled`` to the log and to ``log.jsonl``."""
        if runner.rank != 0 or not self.every_n_train_iters(runner, self.interval):
            return
        training = training_model(runner)
        training.eval()
        values = probe(training.model, self.source, range(self.num_stills), self.expressions)
        training.train()
        runner.logger.info("probe " + "  ".join(f"{name}: {value:.3f}" for name, value in values.items()))
        write_line(Path(runner.work_dir) / "log.jsonl", {"iter": runner.iter + 1, **values})


def write_line(path: Path, content: dict[str, Any]) -> None:
    """Append one JSON line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")


@torch.inference_mode()
def probe(model: Any, source: MiniRVOS, indices: Sequence[int], expressions: int) -> dict[str, float]:
    """Mean IoU by family; ``probe_shuffled`` is with expressions of other targets of the same frame.

    Args:
        model: Composite in eval mode.
        source: Of the stills.
        indices: Which stills.
        expressions: Most expressions of a still.
    """
    found: dict[str, list[float]] = {}
    for start in range(0, len(indices), 16):
        clips = [source.still(i, expressions) for i in indices[start : start + 16]]
        batch = collate_clips([to_sample(clip, clip.expressions) for clip in clips])
        tokens, features = model.encode_frames(batch.frames)
        index = batch.clip_index.to(tokens.device)
        high_res = (features.high_res[0][index], features.high_res[1][index])
        image = ImageFeatures(features.embedding[index], high_res, features.position)
        target = torch.stack([mask[0] for mask in batch.masks]).to(tokens.device)
        families = [expression.family for clip in clips for expression in clip.expressions]
        for names, texts in (
            (families, batch.expressions),
            (["shuffled"] * len(families), shuffled_expressions(clips)),
        ):
            chat = model.chat(texts)
            states = model.seg_states(model.mllm.forward_chat(chat, tokens[index], with_loss=False), chat)
            prompt = SegPrompt(embedding=model.head(states).embedding)
            logits = model.segmenter.decode(image, prompt).mask_logits[:, None]
            full = F.interpolate(logits, target.shape[-2:], mode="bilinear", align_corners=False)[:, 0] > 0
            for name, value in zip(names, mask_ious(full, target).tolist(), strict=True):
                found.setdefault(name, []).append(value)
    return {f"probe_{name}": round(sum(values) / len(values), 4) for name, values in found.items()}


def shuffled_expressions(clips: Sequence[Any]) -> list[str]:
    """For each expression, in order, one of another target of its frame."""
    texts: list[str] = []
    for clip in clips:
        for expression in clip.expressions:
            others = [other.text for other in clip.expressions if other.object_ids != expression.object_ids]
            texts.append(others[len(texts) % len(others)])
    return texts
