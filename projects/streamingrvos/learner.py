"""Training of StreamingRVOS: the clip runs frame by frame, with the SER and the gate of inference.

Source: StreamingRVOS (CVPR 2026), "Streaming Training Pipeline". A clip of one frame is stage 1 (image-level
referring segmentation, placeholder in the context slot); longer clips are stage 2. The gate judges every
sample by its own mask; the released code takes the maximum over batch and candidates, which makes a sample
depend on its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from refstream.data.collate import ClipBatch
from refstream.models.masks import mask_ious
from refstream.registry import GATES, LEARNERS, LOSSES
from refstream.streaming.gates import GateDecision, GateSignals
from refstream.structures import ImageFeatures, SegPrompt

from .pipeline import FIRST
from .ser import SegMemory, stack_context


@dataclass
class _Row:
    """One expression on its way through the clip."""

    memory: SegMemory
    embedding: Tensor | None = None
    mask: Tensor | None = None
    pred_iou: float | None = None
    consistency: float | None = None
    num_frames: int = 0
    frames_since_call: int = 0


@LEARNERS.register_module()
class StreamingRVOSLearner:
    """Losses of a batch of clips.

    Args:
        mask_loss: Config of the mask loss; paper: BCE and Dice with weight 1.
        text_weight: Weight of the token cross-entropy, averaged over the looks (paper: 1).
        iou_weight: Weight of |predicted IoU - true IoU|; 0 in the paper, where SAM2 is frozen.
        gate: When to look again within the clip; None looks at every frame.
        context_length: K of SER; 0 trains without SER.
        attached: Back-propagate through the previous [SEG] state (paper: end-to-end). False detaches it, as
            the release does.
        reprompt: Tell the MLLM on a re-look that the target may have changed.
    """

    def __init__(
        self,
        *,
        mask_loss: dict[str, Any] | None = None,
        text_weight: float = 1.0,
        iou_weight: float = 0.0,
        gate: dict[str, Any] | None = None,
        context_length: int = 1,
        attached: bool = True,
        reprompt: bool = True,
    ) -> None:
        self.mask_loss = LOSSES.build(mask_loss or dict(type="MaskLoss"))
        self.text_weight, self.iou_weight = text_weight, iou_weight
        self.gate = GATES.build(gate or dict(type="EveryFrameGate"))
        self.context_length = context_length
        self.attached, self.reprompt = attached, reprompt

    def losses(self, model: Any, batch: ClipBatch) -> dict[str, Tensor]:
        """Loss terms (scalars with a graph) and the statistics ``iou`` and ``looks_per_frame`` (no graph)."""
        num_frames, rows = (
            batch.num_frames,
            [_Row(SegMemory(max(self.context_length, 1))) for _ in batch.masks],
        )
        vision, features = model.encode_frames(batch.frames)
        truth = torch.stack([_resize_truth(m, model.segmenter.image_size) for m in batch.masks]).to(
            vision.device
        )
        logits, pred_ious, texts, looks = [], [], [], 0
        for t in range(num_frames):
            index = batch.clip_index.to(vision.device) * num_frames + t
            image = features.take(index)
            look, doubts = self._choose(model, rows, image)
            if look:
                text = self._look(model, batch.expressions, rows, look, doubts, vision[index])
                texts.append(text)
                looks += len(look)
            embedding = torch.cat([row.embedding for row in rows if row.embedding is not None])
            prediction = model.segmenter.decode(image, SegPrompt(embedding=embedding))
            self._remember(rows, prediction.mask_logits.detach() > 0, prediction.pred_iou.detach())
            logits.append(prediction.mask_logits)
            pred_ious.append(prediction.pred_iou)
        all_logits, target = torch.cat(logits), torch.cat(list(truth.unbind(1)))
        true_iou = mask_ious(all_logits.detach() > 0, _shrink(target, all_logits) > 0.5)
        losses = self.mask_loss(all_logits, target)
        losses["loss_text"] = self.text_weight * torch.stack(texts).mean()
        if self.iou_weight:
            losses["loss_iou"] = self.iou_weight * (torch.cat(pred_ious).float() - true_iou).abs().mean()
        losses["iou"] = true_iou.mean()
        losses["looks_per_frame"] = true_iou.new_tensor(looks / (num_frames * len(rows)))
        return losses

    def _choose(self, model: Any, rows: list[_Row], image: ImageFeatures) -> tuple[list[int], list[bool]]:
        """Which rows the MLLM must look at, and which of these are in doubt."""
        decisions: list[GateDecision] = []
        pred_iou, masks = self._try_reuse(model, rows, image)
        for i, row in enumerate(rows):
            if row.embedding is None:
                decisions.append(FIRST)
                continue
            row_iou = consistency = None
            if pred_iou is not None and masks is not None and row.mask is not None:
                row_iou = float(pred_iou[i])
                consistency = float(mask_ious(masks[i][None], row.mask[None]))
            decisions.append(
                self.gate.decide(
                    GateSignals(
                        frame_index=row.num_frames,
                        frames_since_call=row.frames_since_call,
                        pred_iou=row_iou,
                        consistency=consistency,
                        prev_pred_iou=row.pred_iou,
                        prev_consistency=row.consistency,
                    )
                )
            )
        look = [i for i, d in enumerate(decisions) if d.invoke]
        return look, [self.reprompt and decisions[i].doubt for i in look]

    @torch.no_grad()
    def _try_reuse(
        self, model: Any, rows: list[_Row], image: ImageFeatures
    ) -> tuple[Tensor | None, Tensor | None]:
        """P_i and masks of the reused prompts on this frame, if the gate wants to see them."""
        embeddings = [row.embedding for row in rows if row.embedding is not None]
        if not self.gate.needs_mask or not embeddings:
            return None, None
        prediction = model.segmenter.decode(image, SegPrompt(embedding=torch.cat(embeddings)))
        return prediction.pred_iou, prediction.mask_logits > 0

    def _look(
        self,
        model: Any,
        expressions: list[str],
        rows: list[_Row],
        look: list[int],
        doubts: list[bool],
        tokens: Tensor,
    ) -> Tensor:
        """The MLLM looks for some rows; new states and prompts. Returns the text loss."""
        chosen = [rows[i] for i in look]
        context, mask = stack_context(
            [r.memory for r in chosen], model.mllm.hidden_size, device=tokens.device, dtype=tokens.dtype
        )
        if self.context_length == 0:
            mask = torch.zeros_like(mask)
        chat = model.chat([expressions[i] for i in look], reprompt=doubts)
        output = model.mllm.forward_chat(chat, tokens[look], context, mask, with_loss=self.text_weight > 0)
        states = model.seg_states(output, chat)
        embeddings = model.head(states).embedding
        for row, state, embedding in zip(chosen, states, embeddings, strict=True):
            row.memory.push(state if self.attached else state.detach())
            row.embedding = embedding[None]
            row.frames_since_call = 0
        return output.loss if output.loss is not None else states.new_zeros(())

    def _remember(self, rows: list[_Row], masks: Tensor, pred_iou: Tensor) -> None:
        for row, mask, iou in zip(rows, masks, pred_iou, strict=True):
            row.consistency = None if row.mask is None else float(mask_ious(mask[None], row.mask[None]))
            row.mask, row.pred_iou = mask, float(iou)
            row.num_frames += 1
            row.frames_since_call += 1


def _resize_truth(mask: Tensor, size: int) -> Tensor:
    """(T, H, W) bool -> (T, S, S) float32 in [0, 1], area-averaged to the segmenter's square."""
    if mask.shape[-2:] == (size, size):
        return mask.float()
    return F.interpolate(mask[:, None].float(), (size, size), mode="area")[:, 0]


def _shrink(target: Tensor, logits: Tensor) -> Tensor:
    return F.interpolate(target[:, None], logits.shape[-2:], mode="area")[:, 0]
