"""Training of VIRST: one pass of the MLLM for a clip, prompts for every frame, masks of the supervised ones.

Source: VIRST (CVPR 2026), the three stages and L = BCE + Dice + tokens + 0.05 occlusion + 0.05 IoU; no
training code was released. What the stages differ in is which parameters are trained (``TrainingModel``) and
what is supervised here:

``supervise="anchors"``   stages 1 and 2: every anchor alone, without memory; a still is a clip of one frame
``supervise="clip"``      stage 3: anchors and their neighbours as a clip, through ``track``
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed

from refstream.data.collate import ClipBatch
from refstream.errors import UserError
from refstream.models.segmenter.memory import build_memory
from refstream.registry import LEARNERS, LOSSES
from refstream.structures import ImageFeatures, MaskPrediction, SegPrompt

from .anchors import NUM_AFTER, NUM_BEFORE, AnchorClip, MiniClip, build_anchor_policy, mini_clip
from .clip import PLACE, ClipReader, ClipReading, build_reader
from .fusion import FusionTokens
from .rollout import frames_of_rows, mean_iou, pairs, seeded, square_truth
from .tracker import ORDERS, track

SUPERVISED = ("anchors", "clip")
MEMORY = dict(type="tdau", alpha=3, anchors="recent", blank_absent=False, map_dtype=None)


@LEARNERS.register_module()
class VIRSTLearner:
    """Losses of a batch of clips and dialogues.

    All clips of a micro-batch have one length and share their anchors, which depend on the samples' ids
    alone. Masks are averaged over pairs of expression and supervised frame, tokens over the targets of
    answers and dialogues, both over ``batch.totals``: so accumulation and ranks count every pair and every
    token the same.

    Args:
        loss: Config of the loss.
        supervise: "anchors" or "clip", see the module.
        anchors: Config of the anchor policy: any that needs neither images nor words.
        memory: Config of the memory; by default that of inference (alpha = 3, most recent), kept in the dtype
            in which it is computed, and with masks of absent objects left in place, so that they learn.
        order: In which frames are decoded, see ``track``. With "time", as at inference, a clip begins at its
            first anchor; "first_anchor" (release) keeps the frames before it.
        num_before: Supervised neighbours before an anchor (release: 2).
        num_after: Supervised neighbours after it (release: 5).
        clip_times: The memory counts time in frames of the sample; False counts supervised frames (release).
        multimask: The best of three masks, as at inference; False: the single mask (release).
        reader: Keys of ``ClipReader``; None: those of the model's pipeline, as at inference.
        questions: Questions of which the sample's id and the expression choose one; None: the reader's.
        answers: Likewise answers.
        max_tiles: Tiles of pictures in dialogues.

    Attributes:
        uniform_calls: Set where parameters are sharded (ZeRO-3, FSDP): anchors are then the same on all
            ranks, and batches must be of one kind and length.

    Raises:
        ValueError: For an unknown ``supervise`` or ``order``, or keys that the memory does not take.
        UserError: For an unknown anchor policy.
    """

    def __init__(
        self,
        *,
        loss: dict[str, Any] | None = None,
        supervise: str = "anchors",
        anchors: Mapping[str, Any] | str = "random",
        memory: Mapping[str, Any] | None = None,
        order: str = "time",
        num_before: int = NUM_BEFORE,
        num_after: int = NUM_AFTER,
        clip_times: bool = True,
        multimask: bool = True,
        reader: Mapping[str, Any] | None = None,
        questions: Sequence[str] | None = None,
        answers: Sequence[str] | None = None,
        max_tiles: int = 1,
    ) -> None:
        if supervise not in SUPERVISED:
            raise ValueError(f"supervise must be one of {SUPERVISED}, got {supervise!r}")
        if order not in ORDERS:
            raise ValueError(f"order must be one of {ORDERS}, got {order!r}")
        self.loss = LOSSES.build(loss or dict(type="VIRSTLoss"))
        self.supervise, self.order = supervise, order
        self.policy = build_anchor_policy(anchors)
        self.memory = dict(MEMORY if memory is None else memory)
        build_memory(self.memory)  # it checks the keys
        self.num_before, self.num_after = num_before, num_after
        self.clip_times, self.multimask = clip_times, multimask
        self.reader = None if reader is None else dict(reader)
        self.questions, self.answers, self.max_tiles = questions, answers, max_tiles
        self.uniform_calls = False

    def counts(self, model: Any, batch: ClipBatch) -> dict[str, int]:
        """What the losses average over, known before the forward pass.

        ``masks``: pairs of expression and supervised frame. ``tokens``: targets of answers and dialogues.
        """
        masks = tokens = 0
        if self.uniform_calls and not batch.masks:
            raise UserError(
                "a batch of dialogues alone cannot be trained with sharded parameters (ZeRO-3, FSDP): the "
                "processes would call the model differently; use ZeRO-2 or plain data parallelism"
            )
        if batch.masks:
            reader = self.new_reader(model)
            masks = len(batch.masks) * len(self.plan(batch).frames)
            answers = self.wording(batch, self.answers)
            for answer in set(answers):
                tokens += reader.supervised_tokens(answer) * answers.count(answer)
        dialogues = [turns for turns in batch.dialogues if turns]
        if dialogues:
            batch.require_single_pictures(self)
            tokens += int((model.mllm.prompts.text(dialogues).labels >= 0).sum())
        return {"masks": masks, "tokens": tokens}

    def plan(self, batch: ClipBatch) -> MiniClip:
        """The frames that are supervised, and which of them are anchors."""
        num_frames = batch.num_frames
        ids = [one for one, masks in zip(batch.sample_ids, _has_masks(batch), strict=True) if masks]
        seed = zlib.crc32("\n".join(ids).encode())
        if self.uniform_calls:
            seed = self._agree(batch, seed)
        chosen = self.policy.choose(AnchorClip(num_frames, rng=seeded([str(seed)])))
        if self.supervise == "anchors":
            return MiniClip(tuple(chosen), tuple(range(len(chosen))))
        clip = mini_clip(chosen, num_frames, self.num_before, self.num_after)
        if self.order != "time":
            return clip
        before = clip.anchors[0]
        return MiniClip(clip.frames[before:], tuple(a - before for a in clip.anchors))

    def new_reader(self, model: Any) -> ClipReader:
        """The reader of this learner, or the one that the model's pipeline names."""
        return build_reader(
            model, model.config.pipeline.get("reader") if self.reader is None else self.reader
        )

    def clip_tokens(self, model: Any, expression: str, num_frames: int) -> tuple[int, int]:
        """Length of an expression's prompt with its answer, and how many of its tokens are targets."""
        reader = self.new_reader(model)
        chat = reader.chat([expression], len(reader.frames(num_frames)))
        answer = reader.answer.replace(PLACE, "")
        labels = model.mllm.prompts.referring([expression], answer=answer).labels
        return int(chat.input_ids.shape[1]), int((labels >= 0).sum())

    def wording(self, batch: ClipBatch, texts: Sequence[str] | None) -> list[str | None]:
        """One of the texts for each expression; None for the reader's own."""
        if not texts:
            return [None] * len(batch.expressions)
        keys = [zlib.crc32(f"{i} {e}".encode()) for i, e in zip(batch.ids, batch.expressions, strict=True)]
        return [texts[key % len(texts)] for key in keys]

    def losses(self, model: Any, batch: ClipBatch) -> dict[str, Tensor]:
        """Loss terms (scalars with a graph) and the statistics ``iou`` and ``supervised_frames``."""
        own = self.counts(model, batch)
        totals = {name: max(float(batch.totals.get(name, count)), 1e-9) for name, count in own.items()}
        text = torch.zeros((), device=model.mllm.device)
        losses: dict[str, Tensor] = {}
        if batch.masks:
            reading, predictions, truth = self._rollout(model, batch)
            pair = pairs(predictions, truth)
            losses = dict(self.loss(**pair, num_pairs=totals["masks"]))
            losses["iou"] = mean_iou(pair)
            losses["supervised_frames"] = truth.new_tensor(float(truth.shape[1]))
            if reading.token_loss is not None:
                text = text + reading.token_loss.sum()
        if any(batch.dialogues):
            text = text + self._dialogue_loss(model, batch)
        losses["loss_text"] = self.loss.token_weight * text / totals["tokens"]
        return losses

    def _rollout(self, model: Any, batch: ClipBatch) -> tuple[ClipReading, list[MaskPrediction], Tensor]:
        """What the MLLM said, predictions of F supervised frames, and their truth (N, F, S, S)."""
        plan, reader, num_frames = self.plan(batch), self.new_reader(model), batch.num_frames
        used, rows = torch.unique(batch.clip_index, return_inverse=True)
        clips = [batch.frames[clip] for clip in used.tolist()]
        features: ImageFeatures = model.image_features([frame for clip in clips for frame in clip])
        rows = rows.to(features.embedding.device)
        tokens = model.head.condense(features.embedding.unflatten(0, (len(clips), num_frames)))
        seen = reader.frames(num_frames)
        vision = reader.encode([clip[t] for clip in clips for t in seen]).unflatten(
            0, (len(clips), len(seen))
        )
        embeds = model.head.initial(tokens)
        reading = reader.read(
            [vision[row] for row in rows.tolist()],
            embeds[rows] if len(clips) > 1 else embeds,
            batch.expressions,
            question=_all_or_none(self.wording(batch, self.questions)),
            answer=_all_or_none(self.wording(batch, self.answers)),
            with_loss=True,
        )
        prompts, _ = model.head.second(reading.hidden, tokens if len(clips) == 1 else _of_rows(tokens, rows))
        frames = frames_of_rows(features, rows, num_frames)
        predictions = self._decode(model.segmenter, [frames[t] for t in plan.frames], prompts, plan)
        truth = square_truth([mask[list(plan.frames)] for mask in batch.masks], model.segmenter.image_size)
        return reading, predictions, truth.to(rows.device)

    def _decode(
        self, segmenter: Any, frames: list[ImageFeatures], prompts: Tensor, plan: MiniClip
    ) -> list[MaskPrediction]:
        """Predictions of the supervised frames, in their order; ``prompts`` are (N, T, n, C)."""
        chosen = prompts[:, list(plan.frames)]
        if self.supervise == "anchors":
            keys: dict[str, Any] = dict(multimask=self.multimask, is_conditioning=True, padded=False)
            return [
                segmenter.decode(image, SegPrompt(embedding=chosen[:, i]), **keys)
                for i, image in enumerate(frames)
            ]
        return track(
            segmenter,
            frames,
            chosen,
            plan.anchors,
            segmenter.new_memory(self.memory),
            times=plan.frames if self.clip_times else None,
            order=self.order,
            multimask=self.multimask,
        )

    def _dialogue_loss(self, model: Any, batch: ClipBatch) -> Tensor:
        """Sum of the cross-entropy over all supervised tokens of the batch's dialogues."""
        batch.require_single_pictures(self)
        chosen = [i for i, turns in enumerate(batch.dialogues) if turns]
        images = [batch.frames[i][0] for i in chosen if len(batch.frames[i])]
        views = iter(model.vision_tokens(images, max_tiles=self.max_tiles) if images else [])
        tokens = [next(views) if len(batch.frames[i]) else None for i in chosen]
        chat = model.mllm.prompts.text(
            [batch.dialogues[i] for i in chosen],
            num_tiles=[0 if one is None else len(one) for one in tokens],
        ).to(model.mllm.device)
        seen = [one for one in tokens if one is not None]
        output = model.mllm.forward_chat(chat, torch.cat(seen) if seen else None, with_loss=True)
        loss: Tensor = output.row_loss.sum()
        return loss

    def _agree(self, batch: ClipBatch, seed: int) -> int:
        """One seed for all ranks, which must have batches of one kind.

        Raises:
            UserError: If they differ: the ranks would call the model differently and wait for ever.
        """
        if not distributed.is_initialized():
            return seed
        kind = (batch.num_frames, len(set(batch.clip_index.tolist())), int(any(batch.dialogues)))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        most = torch.tensor([seed, *kind, *(-n for n in kind)], device=device)
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        found = most.tolist()
        if [-n for n in found[4:]] != found[1:4]:
            raise UserError(
                "with sharded parameters (ZeRO-3, FSDP) all processes need batches of one kind, this one has "
                f"(frames, clips, dialogues) = {kind}: train sources of different kinds with ZeRO-2 or plain "
                "data parallelism"
            )
        return int(found[0])


def _has_masks(batch: ClipBatch) -> list[bool]:
    used = set(batch.clip_index.tolist())
    return [i in used for i in range(len(batch.sample_ids))]


def _all_or_none(texts: list[str | None]) -> list[str] | None:
    given = [text for text in texts if text is not None]
    return given or None


def _of_rows(tokens: FusionTokens, rows: Tensor) -> FusionTokens:
    """The down-sampled frames of N expressions' clips."""
    second = None if tokens.second is None else tokens.second[rows]
    return FusionTokens(len(rows), tokens.num_frames, None, second)
