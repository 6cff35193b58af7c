"""Training of StreamingRVOS: the clip runs frame by frame, with the SER and the gate of inference.

Source: StreamingRVOS (CVPR 2026), "Streaming Training Pipeline", L = L_txt + L_bce + L_dice. A clip of one
frame is stage 1 (image-level referring segmentation, placeholder in the context slot, and conversations);
longer clips are stage 2. The gate judges every sample by its own mask.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from refstream.data.collate import ClipBatch
from refstream.models.masks import mask_ious
from refstream.models.mllm.templates import ANSWERS, QUESTIONS
from refstream.registry import GATES, LEARNERS, LOSSES

from .rollout import Rollout, Row

TEMPLATES = ("fixed", "released")


@LEARNERS.register_module()
class StreamingRVOSLearner:
    """Losses of a batch of clips and dialogues.

    Masks and tokens are averaged over ``batch.totals``, so that accumulation and ranks count every mask and
    every token the same. The text loss of an expression is the mean over its looks (as in the release).

    Args:
        mask_loss: Config of the mask loss; paper: BCE and Dice with weight 1.
        text_weight: Weight of the token cross-entropy (paper: 1).
        iou_weight: Weight of |predicted IoU - true IoU|; 0 in the paper, where SAM2 is frozen.
        gate: Config of when to look again within the clip; None looks at every frame.
        context: Config of what a query remembers for the MLLM; None: SER's ``SegMemory`` of length 1.
        truncate: Most looks that a gradient may cross through the [SEG] states fed back: None the whole clip
            (paper: end to end), 0 none, detached (release).
        reprompt: Tell the MLLM on a re-look that the target may have changed.
        templates: "fixed" asks and answers as inference does; "released" takes one of 16 questions and 5
            answers, chosen by the sample's id and the expression.
        max_tiles: Tiles of the MLLM's view of stills and of pictures in dialogues; frames of clips have 1.
        batch_gate: Judge all samples by the best mask of the batch, over all candidates (a quirk of the
            release: a sample then depends on its neighbours).
        detach_llm: No gradient reaches the language model from clips (a quirk of the release's stage 2).

    Attributes:
        uniform_calls: Set where parameters are sharded (ZeRO-3, FSDP): the MLLM then looks on a rank
            whenever any rank needs it, with a row that counts nothing.
    """

    def __init__(
        self,
        *,
        mask_loss: dict[str, Any] | None = None,
        text_weight: float = 1.0,
        iou_weight: float = 0.0,
        gate: dict[str, Any] | None = None,
        context: dict[str, Any] | None = None,
        truncate: int | None = None,
        reprompt: bool = True,
        templates: str = "fixed",
        max_tiles: int = 1,
        batch_gate: bool = False,
        detach_llm: bool = False,
    ) -> None:
        if templates not in TEMPLATES:
            raise ValueError(f"templates must be one of {TEMPLATES}, got {templates!r}")
        if truncate is not None and truncate < 0:
            raise ValueError(f"truncate must be None or not negative, got {truncate}")
        self.mask_loss = LOSSES.build(mask_loss or dict(type="MaskLoss"))
        self.text_weight, self.iou_weight = text_weight, iou_weight
        self.gate = GATES.build(gate or dict(type="EveryFrameGate"))
        self.context = context or dict(type="SegMemory", length=1)
        self.truncate, self.reprompt = truncate, reprompt
        self.templates, self.max_tiles = templates, max_tiles
        self.batch_gate, self.detach_llm = batch_gate, detach_llm
        self.uniform_calls = False

    def counts(self, model: Any, batch: ClipBatch) -> dict[str, int]:
        """What the losses average over, known before the forward pass.

        ``masks``: pairs of expression and frame. ``tokens``: supervised tokens, those of a forced answer once
        per expression.
        """
        prompts = model.mllm.prompts
        answers = [answer for _, answer in self.wording(prompts, batch)]
        tokens = sum(int((prompts.referring(["x"], answer=a).labels >= 0).sum()) * answers.count(a)
                     for a in set(answers))  # fmt: skip
        dialogues = [turns for turns in batch.dialogues if turns]
        if dialogues:
            batch.require_single_pictures(self)
            tokens += int((prompts.text(dialogues).labels >= 0).sum())
        return {"masks": len(batch.masks) * batch.num_frames, "tokens": tokens}

    def wording(self, prompts: Any, batch: ClipBatch) -> list[tuple[str, str]]:
        """Question and answer of each of the N expressions."""
        if self.templates == "fixed":
            return [(prompts.question, prompts.answer)] * len(batch.expressions)
        keys = [zlib.crc32(f"{i} {e}".encode()) for i, e in zip(batch.ids, batch.expressions, strict=True)]
        return [(QUESTIONS[key % len(QUESTIONS)], ANSWERS[key // 64 % len(ANSWERS)]) for key in keys]

    def losses(self, model: Any, batch: ClipBatch) -> dict[str, Tensor]:
        """Loss terms (scalars with a graph) and the statistics ``iou`` and ``looks_per_frame`` (no graph)."""
        if self.uniform_calls and not batch.masks:
            raise ValueError(
                "a batch of dialogues alone cannot be trained with sharded parameters (ZeRO-3, FSDP): the "
                "ranks would call the model differently; use ZeRO-2 or plain data parallelism"
            )
        own = self.counts(model, batch)
        per = {name: 1.0 / max(batch.totals.get(name, count), 1e-9) for name, count in own.items()}
        text = torch.zeros((), device=model.mllm.device)
        losses: dict[str, Tensor] = {}
        if batch.masks:
            rows = [Row.start(self.context, i, e) for i, e in zip(batch.ids, batch.expressions, strict=True)]
            rollout = Rollout(self, model, batch, rows)
            rollout.run()
            losses = self._mask_losses(rollout, own["masks"] * per["masks"])
            text = text + torch.stack([row.text / row.looks for row in rows]).sum()
        if any(batch.dialogues):
            text = text + self._dialogue_loss(model, batch)
        losses["loss_text"] = self.text_weight * text * per["tokens"]
        return losses

    def _mask_losses(self, rollout: Rollout, scale: float) -> dict[str, Tensor]:
        logits = torch.cat([p.mask_logits for p in rollout.predictions])
        target = torch.cat(list(rollout.truth.unbind(1)))
        true_iou = mask_ious(logits.detach() > 0, _shrink(target, logits) > 0.5)
        losses = {name: value * scale for name, value in self.mask_loss(logits, target).items()}
        if self.iou_weight:
            pred_iou = torch.cat([p.pred_iou for p in rollout.predictions]).float()
            losses["loss_iou"] = self.iou_weight * scale * (pred_iou - true_iou).abs().mean()
        if self.uniform_calls:
            losses["loss_idle"] = rollout.idle
        losses["iou"] = true_iou.mean()
        losses["looks_per_frame"] = true_iou.new_tensor(rollout.looks / len(true_iou))
        return losses

    def _dialogue_loss(self, model: Any, batch: ClipBatch) -> Tensor:
        """Sum of the cross-entropy over all supervised tokens of the batch's dialogues."""
        batch.require_single_pictures(self)
        chosen = [i for i, turns in enumerate(batch.dialogues) if turns]
        images = [batch.frames[i][0] for i in chosen if len(batch.frames[i])]
        views = iter(model.vision_tokens(images, max_tiles=self.max_tiles) if images else [])
        tokens = [next(views) if len(batch.frames[i]) else None for i in chosen]
        prompts = model.mllm.prompts
        chat = prompts.text(
            [batch.dialogues[i] for i in chosen],
            num_tiles=[0 if one is None else len(one) for one in tokens],
            with_context=prompts.with_context,
        ).to(model.mllm.device)
        seen = [one for one in tokens if one is not None]
        output = model.mllm.forward_chat(chat, torch.cat(seen) if seen else None, with_loss=True)
        return output.row_loss.sum()


def resize_truth(masks: Sequence[Tensor], size: int) -> Tensor:
    """N (T, H, W) bool -> (N, T, S, S) float32 in [0, 1], area-averaged to the segmenter's square."""
    return torch.stack(
        [
            mask.float()
            if mask.shape[-2:] == (size, size)
            else F.interpolate(mask[:, None].float(), (size, size), mode="area")[:, 0]
            for mask in masks
        ]
    )


def _shrink(target: Tensor, logits: Tensor) -> Tensor:
    return F.interpolate(target[:, None], logits.shape[-2:], mode="area")[:, 0]
