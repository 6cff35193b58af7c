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
        decisions = [self._decide(i, reused) for i in range(len(self.rows))]
        look = [i for i, decision in enumerate(decisions) if decision.invoke]
        if self._any_rank(bool(look)):
            doubts = [self.learner.reprompt and decisions[i].doubt for i in look]
            self._look(look, doubts, index)
        prediction = self._merge(reused, look, image)
        self._remember(prediction)
        return prediction

    def _decide(self, i: int, reused: MaskPrediction | None) -> GateDecision:
        row = self.rows[i]
        if row.embedding is None:
            return FIRST
        consistency = None
        if reused is not None and row.mask is not None:
            consistency = float(mask_ious(reused.mask_logits[i : i + 1].detach() > 0, row.mask[None]))
        return self.learner.gate.decide(
            GateSignals(
                frame_index=row.num_frames,
                frames_since_call=row.frames_since_call,
                pred_iou=None if reused is None else float(reused.pred_iou[i]),
                consistency=consistency,
                prev_pred_iou=row.pred_iou,
                prev_consistency=row.consistency,
                query=row.number,
            )
        )

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
        best = float(prediction.candidate_iou.max()) if self.learner.batch_gate else None
        for i, row in enumerate(self.rows):
            row.consistency = None if row.mask is None else float(mask_ious(masks[i][None], row.mask[None]))
            row.mask = masks[i]
            row.pred_iou = float(prediction.pred_iou[i]) if best is None else best
            row.num_frames += 1
            row.frames_since_call += 1

    def _any_rank(self, wanted: bool) -> bool:
        """Whether any rank says yes, where all must do the same; otherwise this rank's own answer."""
        if not (self.learner.uniform_calls and distributed.is_initialized()):
            return wanted
        flag = torch.tensor(int(wanted), device=self.first_image.device)
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag)
