"""Training of SPOT: the two rounds of every frame under teacher forcing, and the bridge over a segment.

Source: SPOT (CVPR 2026): LoRA on the MLLM alone, the segmenter is not asked in training; L = sum over the
T_s = 8 frames of a segment of (quality + 0.5 text) + 0.1 bridge. See ``losses`` for the terms, ``segments``
for what becomes of empty frames. In the paper's form of the bridge frames do not depend on each other, so a
segment can be run in pieces (``frames_at_once``), each of which may be forgotten until its gradient is
needed (``recompute``): losses and gradients stay those of the whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, distributed
from torch.utils.checkpoint import checkpoint

from refstream.data.collate import ClipBatch
from refstream.errors import UserError
from refstream.models.mllm.chat_tokens import IGNORE, ChatTokens
from refstream.models.mllm.pooling import pool_tokens
from refstream.registry import LEARNERS, LOSSES

from .dialogue import JITTER, Exchange, Places, exchange_turns, find_places, read_signals
from .geometry import box_size
from .losses import FrameTruth, SPOTLoss
from .reader import check_length, spot_format, tokens_per_frame
from .segments import CENTRES, SEGMENT_LENGTH, ObjectSegment, cut, object_segment
from .signals import FrameSignals, SpotTokens, spot_tokens
from .text import SpotFormat

GRIDS = ("jitter", "truth", "prediction")
PHASES = ("zero", "random")


@dataclass(frozen=True, eq=False)
class Looked:
    """One frame of one segment, as the MLLM is asked about it.

    Attributes:
        image: Which of the batch's images it is.
        exchange: What is said.
    """

    image: int
    exchange: Exchange


@dataclass(frozen=True, eq=False)
class Segment:
    """One expression over one segment.

    Attributes:
        truth: Of its object.
        frames: In the order of time.
    """

    truth: ObjectSegment
    frames: list[Looked]


@LEARNERS.register_module()
class SPOTLearner:
    """Losses of a batch of clips.

    All is averaged over pairs of expression and segment (``batch.totals``), so that accumulation and ranks
    count every segment the same.

    Args:
        loss: Config of the loss.
        text: Keys of ``SpotFormat``; None: those of the model's pipeline, as at inference.
        frame_tokens: Vision tokens per frame; None: those of the model's pipeline, or all.
        segment_length: T_s (paper: 8). A still is a segment of one frame, without a bridge.
        phase: Where the first segment of a longer clip ends, see ``cut``: "zero", or "random" by the
            sample's id. Datasets that draw a clip of T_s frames have drawn the phase already.
        centre: Of the truth, see ``object_segment``.
        grid: Boxes of round 2: "jitter" moves the edges of the true box (assumed), "truth" does not,
            "prediction" takes the soft box of a first pass, without its gradient.
        jitter: How far edges move, in sides of the box.
        frames_at_once: Frames in one pass of the language model.
        recompute: Forget a pass until its gradient is needed, and run it again then.

    Attributes:
        uniform_calls: Set where parameters are sharded (ZeRO-3, FSDP): all processes then call the model
            equally often, some of them for nothing.

    Raises:
        ValueError: For unknown words or numbers out of range.
    """

    def __init__(
        self,
        loss: dict[str, Any] | None = None,
        text: dict[str, Any] | None = None,
        frame_tokens: int | None = None,
        segment_length: int = SEGMENT_LENGTH,
        phase: str = "zero",
        centre: str = "box",
        grid: str = "jitter",
        jitter: float = JITTER,
        frames_at_once: int = SEGMENT_LENGTH,
        recompute: bool = False,
    ) -> None:
        if grid not in GRIDS or phase not in PHASES or centre not in CENTRES:
            raise ValueError(
                f"grid must be one of {GRIDS}, phase of {PHASES}, centre of {CENTRES}; got {grid!r}, "
                f"{phase!r} and {centre!r}"
            )
        if min(segment_length, frames_at_once) < 1 or not 0 <= jitter < 0.5:
            raise ValueError(
                "segment_length and frames_at_once must be at least 1 and jitter in [0, 0.5), got "
                f"{segment_length}, {frames_at_once} and {jitter}"
            )
        self.loss: SPOTLoss = LOSSES.build(loss or dict(type="SPOTLoss"))
        self.text, self.frame_tokens = text, frame_tokens
        self.segment_length, self.phase, self.centre = segment_length, phase, centre
        self.grid, self.jitter = grid, jitter
        self.frames_at_once, self.recompute = frames_at_once, recompute
        self.uniform_calls = False
        self._known: tuple[Any, SpotFormat, SpotTokens] | None = None

    def prepare(self, model: Any) -> None:
        """Check that the model can hold the dialogue; before training.

        A model without weights (a dry run) may have another tokenizer than its own, and is not checked.

        Raises:
            UserError: If tokens, lengths or ``frame_tokens`` do not fit.
        """
        if model.mllm.device.type == "meta":
            return
        text = self.format(model)
        spot_tokens(model.mllm.prompts, text)
        check_length(model.mllm, text, self.tokens_per_frame(model))

    def format(self, model: Any) -> SpotFormat:
        """How dialogues are written."""
        own = model.config.pipeline.get("text") if self.text is None else self.text
        return spot_format(None if own is None else dict(own))

    def tokens(self, model: Any, text: SpotFormat) -> SpotTokens:
        """Tokens of numbers and judgements; looked up once per tokenizer."""
        prompts = model.mllm.prompts
        if self._known is None or self._known[0] is not prompts or self._known[1] != text:
            self._known = (prompts, text, spot_tokens(prompts, text))
        return self._known[2]

    def tokens_per_frame(self, model: Any) -> int:
        """Vision tokens of one frame."""
        own = model.config.pipeline.get("frame_tokens") if self.frame_tokens is None else self.frame_tokens
        return tokens_per_frame(model.mllm, own)

    def counts(self, model: Any, batch: ClipBatch) -> dict[str, int]:
        """What losses are averaged over: ``segments``, pairs of expression and segment."""
        self._check(batch)
        return {"segments": sum(len(self.segments_of(batch, row)) for row in range(len(batch.expressions)))}

    def segments_of(self, batch: ClipBatch, row: int) -> list[range]:
        """Frames of each segment of one expression's clip."""
        num_frames = int(batch.masks[row].shape[0])
        phase = 0
        if self.phase == "random" and num_frames > self.segment_length:
            phase = zlib.crc32(f"phase {batch.ids[row]}".encode()) % self.segment_length
        return cut(num_frames, self.segment_length, phase)

    def clip_tokens(self, model: Any, expression: str, num_frames: int) -> tuple[int, int]:
        """Tokens of one expression's dialogues over a clip, and how many of them are targets."""
        text = self.format(model)
        exchange = Exchange.of(expression, torch.ones(1, 2, 2, dtype=torch.bool), text, jitter=0.0)
        chat = model.mllm.prompts.turns(
            [exchange_turns(text, exchange)], tile_tokens=self.tokens_per_frame(model)
        )
        return num_frames * int(chat.input_ids.shape[1]), num_frames * int((chat.labels != IGNORE).sum())

    def losses(self, model: Any, batch: ClipBatch) -> dict[str, Tensor]:
        """Loss terms (scalars with a graph), and ``box_iou`` and ``point_accuracy`` of what is said."""
        own = self.counts(model, batch)
        total = max(float(batch.totals.get("segments", own["segments"])), 1e-9)
        text = self.format(model)
        vision = self.vision(model, batch)
        segments = self.segments(model, batch, text)
        if self.grid == "prediction":
            segments = self.regridded(model, segments, vision, text)
        looked = [frame for segment in segments for frame in segment.frames]
        heard, idle = self.hear(model, looked, vision, text)
        losses: dict[str, Tensor] = {}
        at = 0
        for segment in segments:
            signals = heard[at : at + len(segment.frames)]
            at += len(segment.frames)
            for name, value in self.segment_losses(segment, signals, total).items():
                losses[name] = losses[name] + value if name in losses else value
        if self.uniform_calls:
            losses["loss_idle"] = idle
        return losses | statistics(looked, heard)

    def segments(self, model: Any, batch: ClipBatch, text: SpotFormat) -> list[Segment]:
        """All segments of a batch; grids of round 2 depend on the samples alone, so that a resumed run draws
        the same."""
        starts = [0]
        for clip in batch.frames:
            starts.append(starts[-1] + len(clip))
        found = []
        for row, expression in enumerate(batch.expressions):
            said = model.mllm.prompts.clean(expression)
            generator = torch.Generator().manual_seed(zlib.crc32(f"{batch.ids[row]} {expression}".encode()))
            jitter = self.jitter if self.grid == "jitter" else 0.0
            for frames in self.segments_of(batch, row):
                truth = object_segment(batch.masks[row][list(frames)].cpu(), centre=self.centre)
                first = starts[int(batch.clip_index[row])]
                looked = [
                    Looked(
                        first + t,
                        Exchange.of(said, mask[None], text, jitter=jitter, generator=generator),
                    )
                    for t, mask in zip(frames, truth.masks, strict=True)
                ]
                found.append(Segment(truth, looked))
        return found

    def segment_losses(
        self, segment: Segment, signals: Sequence[FrameSignals], num_segments: float = 1.0, first: int = 0
    ) -> dict[str, Tensor]:
        """Losses of some consecutive frames of a segment, those from ``first`` on."""
        plan = self.loss.bridge.plan(segment.truth.centres, segment.truth.alphas)
        truths = []
        for t, frame in enumerate(segment.frames[first : first + len(signals)], first):
            said = frame.exchange
            bridge = (plan[t],) if len(said.boxes) else ()
            truths.append(FrameTruth(said.boxes, said.labels, bridge, said.objects))
        return self.loss(signals, truths, num_frames=len(segment.frames), num_segments=num_segments)

    def _check(self, batch: ClipBatch) -> None:
        if any(batch.dialogues) or not batch.masks:
            raise UserError(
                f"{type(self).__name__} learns expressions with masks, but the batch of "
                f"{batch.sample_ids[:2]} holds dialogues: leave their dataset out of train_dataloader"
            )

    def vision(self, model: Any, batch: ClipBatch) -> Tensor:
        """(images, n, D) vision tokens of all frames of all clips."""
        images = [frame for clip in batch.frames for frame in clip]
        return pool_tokens(torch.cat(model.vision_tokens(images)), self.tokens_per_frame(model))

    def regridded(
        self, model: Any, segments: list[Segment], vision: Tensor, text: SpotFormat
    ) -> list[Segment]:
        """The same segments with the model's own soft boxes for round 2."""
        with torch.no_grad():
            looked = [frame for segment in segments for frame in segment.frames]
            heard, _ = self.hear(model, looked, vision, text)
        said = iter(heard)
        found = []
        for segment in segments:
            frames = []
            for frame, mask in zip(segment.frames, segment.truth.masks, strict=True):
                boxes = next(said).boxes
                if len(boxes):
                    corners = boxes.clamp(0, 1)
                    ordered = torch.cat(
                        (
                            torch.minimum(corners[:, :2], corners[:, 2:]),
                            torch.maximum(corners[:, :2], corners[:, 2:]),
                        ),
                        dim=1,
                    )
                    own = Exchange.of(frame.exchange.expression, mask[None], text, grid_boxes=ordered)
                    frame = Looked(frame.image, own)
                frames.append(frame)
            found.append(Segment(segment.truth, frames))
        return found

    def hear(
        self, model: Any, looked: Sequence[Looked], vision: Tensor, text: SpotFormat
    ) -> tuple[list[FrameSignals], Tensor]:
        """Signals of all frames, and 0 with the graph of passes that were made for other ranks alone."""
        size = self.frames_at_once
        passes = [looked[at : at + size] for at in range(0, len(looked), size)]
        heard: list[FrameSignals] = []
        for some in passes:
            heard += self._pass(model, some, vision, text)
        idle = vision.new_zeros(())
        for _ in range(self._most(len(passes)) - len(passes)):
            spare = self._pass(model, passes[0][:1], vision, text)[0]
            idle = idle + 0.0 * (spare.token_losses.sum() + spare.boxes.sum() + spare.z.sum())
        return heard, idle

    def _pass(
        self, model: Any, some: Sequence[Looked], vision: Tensor, text: SpotFormat
    ) -> list[FrameSignals]:
        """Signals of a few frames by one pass of the language model."""
        device, tokens = vision.device, self.tokens(model, text)
        dialogues = [exchange_turns(text, frame.exchange) for frame in some]
        chat = model.mllm.prompts.turns(dialogues, tile_tokens=int(vision.shape[1])).to(device)
        places = [
            find_places(chat.labels[row], len(frame.exchange.boxes), text, tokens)
            for row, frame in enumerate(some)
        ]
        images = vision[[frame.image for frame in some]]
        return self._run(_run, model.mllm, chat, images, places, text, tokens)

    def _run(self, run: Callable[..., tuple[Tensor, ...]], *given: Any) -> list[FrameSignals]:
        """Signals by a function that returns their fields one after the other, perhaps recomputed."""
        if self.recompute and torch.is_grad_enabled():
            flat = checkpoint(run, *given, use_reentrant=False)
        else:
            flat = run(*given)
        names = len(fields(FrameSignals))
        return [FrameSignals(*flat[i : i + names]) for i in range(0, len(flat), names)]

    def _most(self, number: int) -> int:
        """The largest of the processes' numbers, where they must call the model equally often."""
        if not self.uniform_calls or not distributed.is_initialized():
            return number
        device = "cuda" if torch.cuda.is_available() else "cpu"
        most = torch.tensor(number, device=device)
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        return int(most)


def _run(
    mllm: Any,
    chat: ChatTokens,
    images: Tensor,
    places: Sequence[Places],
    text: SpotFormat,
    tokens: SpotTokens,
) -> tuple[Tensor, ...]:
    """The fields of each row's ``FrameSignals``, one after the other."""
    hidden = mllm.forward_chat(chat, images, with_loss=False).hidden
    rows = torch.cat([torch.full_like(place.rows, row) for row, place in enumerate(places)])
    said = torch.cat([place.rows for place in places])
    logits = mllm.logits(hidden[rows, said]).split([len(place.rows) for place in places])
    flat: list[Tensor] = []
    for one, place in zip(logits, places, strict=True):
        signals = read_signals(one, place, text, tokens)
        flat += [getattr(signals, field.name) for field in fields(FrameSignals)]
    return tuple(flat)


@torch.no_grad()
def statistics(looked: Sequence[Looked], heard: Sequence[FrameSignals]) -> dict[str, Tensor]:
    """``box_iou``: mean IoU of soft and true boxes; ``point_accuracy``: share of points that are judged
    rightly.
    """
    device = heard[0].boxes.device
    soft = torch.cat([signals.boxes for signals in heard])
    true = torch.cat([frame.exchange.boxes for frame in looked]).to(device)
    z = torch.cat([signals.z for signals in heard])
    labels = torch.cat([frame.exchange.labels for frame in looked]).to(device)
    if not len(true):
        return {}
    low = torch.maximum(soft[:, :2], true[:, :2])
    high = torch.minimum(soft[:, 2:], true[:, 2:])
    overlap = (high - low).clamp(min=0).prod(1)
    areas = box_size(soft).clamp(min=0).prod(1) + box_size(true).prod(1)
    return {
        "box_iou": (overlap / (areas - overlap).clamp(min=1e-9)).mean(),
        "point_accuracy": ((z > 0) == (labels > 0)).float().mean(),
    }
