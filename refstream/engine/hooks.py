"""Hooks and parts that RefStream adds to mmengine's Runner."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook

from refstream.data.collate import collate_clips
from refstream.data.datasets.minirvos import to_sample
from refstream.models.masks import mask_ious
from refstream.registry import HOOKS
from refstream.structures import ImageFeatures, SegPrompt
from refstream.synthetic.minirvos import MiniRVOS


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
    """Write the trained model as a RefStream folder at the end.

    Args:
        folder: Where to; None means ``export`` in the work directory.
        dtype: Storage type of the weights, "float32", "float16" or "bfloat16".
    """

    def __init__(self, folder: str | None = None, dtype: str = "float32") -> None:
        self.folder, self.dtype = folder, getattr(torch, dtype)

    def after_train(self, runner: Any) -> None:
        """Save, on the first process alone."""
        if runner.rank == 0:
            model = getattr(runner.model, "module", runner.model).model
            folder = model.save(self.folder or Path(runner.work_dir) / "export", dtype=self.dtype)
            runner.logger.info(f"exported to {folder}")


@HOOKS.register_module()
class ReferringProbeHook(Hook):
    """Mask IoU on single frames of another split, for the right and for shuffled expressions.

    The mean over frames of IoU at low resolution: a curve for the log, not a benchmark.

    Args:
        interval: Iterations between two probes.
        split: Of MiniRVOS.
        num_stills: Frames.
        expressions: Most expressions of a frame.
    """

    priority = "VERY_HIGH"

    def __init__(self, interval: int = 200, split: str = "val", num_stills: int = 64, expressions: int = 4) -> None:
        self.interval, self.expressions = interval, expressions
        self.num_stills = num_stills
        self.source = MiniRVOS(split, seed=0)  # type: ignore[arg-type]

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Put ``probe_<family>`` and ``probe_shuffled`` into the log."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        training = getattr(runner.model, "module", runner.model)
        training.eval()
        values = probe(training.model, self.source, range(self.num_stills), self.expressions)
        training.train()
        for name, value in values.items():
            runner.message_hub.update_scalar(f"train/{name}", value)


@torch.inference_mode()
def probe(model: Any, source: MiniRVOS, indices: Sequence[int], expressions: int) -> dict[str, float]:
    """Mean IoU by family, ``probe_shuffled`` with expressions of other targets of the same frame.

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
        families = [expression.family for clip in clips for expression in clip.expressions]
        target = torch.stack([mask[0] for mask in batch.masks]).to(tokens.device)
        for names, texts in ((families, batch.expressions), (["shuffled"] * len(families), _shuffled(clips))):
            chat = model.chat(texts)
            states = model.seg_states(model.mllm.forward_chat(chat, tokens[index], with_loss=False), chat)
            image = ImageFeatures(
                features.embedding[index],
                (features.high_res[0][index], features.high_res[1][index]),
                features.position,
            )
            embedding = model.head(states).embedding
            logits = model.segmenter.decode(image, SegPrompt(embedding=embedding)).mask_logits
            size = target.shape[-2:]
            full = torch.nn.functional.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)
            for name, value in zip(names, mask_ious(full[:, 0] > 0, target).tolist(), strict=True):
                found.setdefault(name, []).append(value)
    return {f"probe_{name}": sum(values) / len(values) for name, values in found.items()}


def _shuffled(clips: Sequence[Any]) -> list[str]:
    """For each expression one of another target of its frame, in the order of the batch."""
    texts = []
    for clip in clips:
        for expression in clip.expressions:
            others = [other.text for other in clip.expressions if other.object_ids != expression.object_ids]
            texts.append(others[len(texts) % len(others)])
    return texts
