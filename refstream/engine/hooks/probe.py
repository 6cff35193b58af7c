"""A quick look at referring while training: IoU on single frames, right against shuffled expressions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook

from refstream.data.collate import collate_clips
from refstream.data.datasets.minirvos import to_sample
from refstream.engine.hooks.common import aside, require_whole, training_model, write_line
from refstream.models.masks import mask_ious
from refstream.registry import HOOKS
from refstream.structures import SegPrompt
from refstream.synthetic.minirvos import MiniRVOS


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

    def before_train(self, runner: Any) -> None:
        """Refuse divided parameters, see ``require_whole``."""
        require_whole(runner, self)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Write ``probe_<family>`` and ``probe_shuffled`` to the log and to ``log.jsonl``."""
        if runner.rank != 0 or not self.every_n_train_iters(runner, self.interval):
            return
        training = training_model(runner)
        with aside(training):
            values = probe(training.model, self.source, range(self.num_stills), self.expressions)
        runner.logger.info("probe " + "  ".join(f"{name}: {value:.3f}" for name, value in values.items()))
        write_line(runner, {"iter": runner.iter + 1, **values})


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
        images = [frames[0] for frames in batch.frames]
        tokens = torch.stack(model.vision_tokens(images))
        index = batch.clip_index.to(tokens.device)
        image = model.image_features(images).take(index)
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
