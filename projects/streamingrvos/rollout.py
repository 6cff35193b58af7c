"""A batch of clips on its way through the model, frame by frame, as a stream would run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, distributed

from refstream.data.collate import ClipBatch
from refstream.models.masks import mask_ious
from refstream.registry import CONTEXTS
from refstream.streaming.gates import GateDecision, GateSignals, query_number
from refstream.structures import ImageFeatures, MaskPrediction, SegPrompt

from .pipeline import FIRST
from .ser import SegMemory, stack_context

if TYPE_CHECKING:
    from .learner import StreamingRVOSLearner


@dataclass
class Row:
    """One expression on its way through its clip.

    Attributes:
        memory: What the MLLM is told of the past.
        number: Tells the row from others, for gates that toss coins.
        embedding: (1, 1, C) prompt in use; None before the first look.
        mask: (h, w) bool, the mask of the frame before.
        text: Sum over the looks of the answer's token losses.
        crossed: Looks since the fed-back state was last detached.
    """

    memory: SegMemory
    number: int
    embedding: Tensor | None = None
    mask: Tensor | None = None
    pred_iou: float | None = None
    consistency: float | None = None
    num_frames: int = 0
    frames_since_call: int = 0
    text: Tensor | float = 0.0
    looks: int = 0
    crossed: int = 0

    @classmethod
    def start(cls, context: dict[str, Any], sample: str, expression: str) -> Row:
        """A row that has seen nothing."""
        return cls(CONTEXTS.build(dict(context)), query_number(f"{sample} {expression}"))


class Rollout:
    """Runs all rows of a batch through their clips and keeps what came out.

    Args:
        learner: Its gate and switches.
        model: Composite of MLLM, head and segmenter.
        batch: With at least one expression.
        rows: One per expression.

    Attributes:
        predictions: T predictions for N rows.
        truth: (N, T, S, S) float32 in [0, 1].
        looks: Pairs of row and frame at which the MLLM looked.
        idle: 0, with the graph of calls that were made only to keep pace with other ranks.
    """

    def __init__(self, learner: StreamingRVOSLearner, model: Any, batch: ClipBatch, rows: list[Row]) -> None:
        from .learner import resize_truth

        self.learner, self.model, self.rows = learner, model, rows
        self.expressions, self.num_frames = batch.expressions, batch.num_frames
        self.wording = learner.wording(model.mllm.prompts, batch)
        clips, local = torch.unique(batch.clip_index, return_inverse=True)
        images: list[np.ndarray] = [frame for clip in clips.tolist() for frame in batch.frames[clip]]
        self.vision = model.vision_tokens(images, max_tiles=learner.max_tiles if self.num_frames == 1 else 1)
        self.features: ImageFeatures = model.image_features(images)
        device = self.features.embedding.device
        self.first_image = (local * self.num_frames).to(device)
        self.truth = resize_truth(batch.masks, model.segmenter.image_size).to(device)
        self.predictions: list[MaskPrediction] = []
        self.looks = 0
        self.idle = torch.zeros((), device=device)

    def run(self) -> None:
        """All frames of the clips."""
        for t in range(self.num_frames):
            self.predictions.append(self._step(t))

    def _step(self, t: int) -> MaskPrediction:
        index = self.first_image + t
        image = self.features.take(index)
        reused = None
        if t > 0 and self.learner.gate.needs_mask:
            reused = self._decode(image, range(len(self.rows)))
        decisions = self._decide(reused)
        look = [i for i, decision in enumerate(decisions) if decision.invoke]
        if self._any_rank(bool(look)):
            doubts = [self.learner.reprompt and decisions[i].doubt for i in look]
            self._look(look, doubts, index)
        prediction = self._merge(reused, look, image)
        self._remember(prediction)
        return prediction

    def _decide(self, reused: MaskPrediction | None) -> list[GateDecision]:
        """Each row judged by itself, on what was decoded with its old prompt."""
        nothing: list[float | None] = [None] * len(self.rows)
        pred_iou, consistency = nothing, nothing
        if reused is not None:
            pred_iou = [*reused.pred_iou.detach().tolist()]
            consistency = self._consistency(reused.mask_logits.detach() > 0)
        return [
            FIRST
            if row.embedding is None
            else self.learner.gate.decide(
                GateSignals(
                    frame_index=row.num_frames,
                    frames_since_call=row.frames_since_call,
                    pred_iou=pred_iou[i],
                    consistency=consistency[i],
                    prev_pred_iou=row.pred_iou,
                    prev_consistency=row.consistency,
                    query=row.number,
                )
            )
            for i, row in enumerate(self.rows)
        ]

    def _consistency(self, masks: Tensor) -> list[float | None]:
        """P_c of each row: IoU of (N, h, w) masks with those of the frame before; None on the first frame."""
        before = [row.mask for row in self.rows if row.mask is not None]
        if not before:
            return [None] * len(self.rows)
        return [*mask_ious(masks, torch.stack(before)).tolist()]

    def _look(self, look: list[int], doubts: list[bool], index: Tensor) -> None:
        """The MLLM looks for some rows, or, where another rank needs it and this one does not, for none."""
        chosen = look or [0]
        learner, mllm = self.learner, self.model.mllm
        views = [self.vision[int(index[i])] for i in chosen]
        context, mask = stack_context(
            [self.rows[i].memory for i in chosen], mllm.hidden_size, device=mllm.device, dtype=views[0].dtype
        )
        chat = self.model.chat(
            [self.expressions[i] for i in chosen],
            reprompt=doubts or False,
            question=[self.wording[i][0] for i in chosen],
            answer=[self.wording[i][1] for i in chosen],
            num_tiles=[len(view) for view in views],
        )
        output = mllm.forward_chat(chat, torch.cat(views), context, mask, with_loss=True)
        states, text = self.model.seg_states(output, chat), output.row_loss
        if learner.detach_llm and self.num_frames > 1:
            states, text = states.detach(), text.detach()
        embeddings = self.model.head(states).embedding
        if not look:
            self.idle = self.idle + 0.0 * (embeddings.sum() + text.sum()).float()
            return
        self.looks += len(look)
        for i, state, embedding, loss in zip(look, states, embeddings, text, strict=True):
            row = self.rows[i]
            row.memory.push(self._fed_back(row, state))
            row.embedding = embedding[None]
            row.text, row.looks, row.frames_since_call = row.text + loss, row.looks + 1, 0

    def _fed_back(self, row: Row, state: Tensor) -> Tensor:
        """The state as later looks will see it: detached every ``truncate`` looks."""
        limit = self.learner.truncate
        row.crossed += 1
        if limit is None or row.crossed <= limit:
            return state
        row.crossed = 0
        return state.detach()

    def _decode(self, image: ImageFeatures, chosen: Any) -> MaskPrediction:
        prompts = torch.cat([self.rows[i].embedding for i in chosen])  # type: ignore[misc]
        return self.model.segmenter.decode(image, SegPrompt(embedding=prompts))

    def _merge(self, reused: MaskPrediction | None, look: list[int], image: ImageFeatures) -> MaskPrediction:
        """Masks of the prompts now in use; those of reused prompts are not decoded twice."""
        if reused is None:
            return self._decode(image, range(len(self.rows)))
        where = torch.tensor(look, dtype=torch.int64, device=self.first_image.device)
        if not look:
            if self._any_rank(False):
                spare = self._decode(image.take(where.new_zeros(1)), [0])
                self.idle = self.idle + 0.0 * spare.mask_logits.sum()
            return reused
        self._any_rank(True)
        fresh = self._decode(image.take(where), look)
        names = MaskPrediction.__dataclass_fields__
        merged = {name: getattr(reused, name).index_copy(0, where, getattr(fresh, name)) for name in names}
        return MaskPrediction(**merged)

    def _remember(self, prediction: MaskPrediction) -> None:
        masks = prediction.mask_logits.detach() > 0
        pred_iou = prediction.pred_iou.detach()
        if self.learner.batch_gate:
            pred_iou = prediction.candidate_iou.detach().max().expand_as(pred_iou)
        signals = zip(self.rows, masks, pred_iou.tolist(), self._consistency(masks), strict=True)
        for row, mask, iou, consistency in signals:
            row.mask, row.pred_iou, row.consistency = mask, iou, consistency
            row.num_frames += 1
            row.frames_since_call += 1

    def _any_rank(self, wanted: bool) -> bool:
        """Whether any rank says yes, where all must do the same; otherwise this rank's own answer."""
        if not (self.learner.uniform_calls and distributed.is_initialized()):
            return wanted
        flag = torch.tensor(int(wanted), device=self.first_image.device)
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag)
