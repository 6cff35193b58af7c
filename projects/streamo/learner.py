"""Training of Streamo: packed dialogues over streams, one frame per turn, one state per answer.

Source: Streamo and its released code: the vision tower is frozen, projector and language model learn; the
supervised tokens are those of every turn's answer and its end; the loss is ``StateFocalLoss``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

from refstream.data.collate import ClipBatch
from refstream.errors import UserError
from refstream.models.mllm.chat import Turn
from refstream.models.mllm.chat_tokens import IGNORE, ChatTokens
from refstream.models.mllm.pooling import check_pooling, pool_tokens
from refstream.registry import LEARNERS, LOSSES

from .losses import StateFocalLoss
from .packing import pack, packed_hidden, packed_labels
from .states import STATES, Initial, StateIds, check_prompts, initialise_states, state_ids

MAX_TOKENS = 32_768  # release


@LEARNERS.register_module()
class StreamoLearner(nn.Module):
    """Losses of a batch of dialogues.

    The loss is a sum over supervised tokens divided by ``batch.totals``, and so are the counts of the states
    with alpha "global": it is the same however an optimizer step is cut into micro-batches, rows and
    processes.

    Args:
        loss: Config of the loss.
        frame_tokens: Vision tokens per frame, see ``pool_tokens``. None: those of the model's pipeline, or
            all.
        max_tokens: Of a packed row; a single dialogue must fit as well.
        encode_batch: Frames that the vision tower sees at once.
        initialise: How the rows of the states begin, see ``initialise_states``; None: as they were loaded,
            for weights that know the states.

    Attributes:
        uniform_calls: Set where parameters are sharded (ZeRO-3, FSDP): all processes then call the model
            equally often, some of them for nothing.

    Raises:
        ValueError: If ``max_tokens`` or ``encode_batch`` is less than 1.
    """

    def __init__(
        self,
        loss: dict[str, Any] | None = None,
        frame_tokens: int | None = None,
        max_tokens: int = MAX_TOKENS,
        encode_batch: int = 32,
        initialise: Initial | None = "words",
    ) -> None:
        super().__init__()
        if min(max_tokens, encode_batch) < 1:
            raise ValueError(
                f"max_tokens and encode_batch must be at least 1, got {max_tokens} and {encode_batch}"
            )
        self.loss: StateFocalLoss = LOSSES.build(loss or dict(type="StateFocalLoss"))
        self.frame_tokens, self.max_tokens = frame_tokens, max_tokens
        self.encode_batch, self.initialise = encode_batch, initialise
        self.uniform_calls = False
        self._observed: Any = None

    def prepare(self, model: Any) -> None:
        """Check that the model knows the states, and give their rows first values; before training.

        Raises:
            UserError: If tokens, prompts or ``frame_tokens`` do not fit.
        """
        state_ids(model.mllm.tokenizer)
        check_prompts(model.mllm.prompts)
        check_pooling_of(model, self.tokens_per_frame(model))
        if self.initialise is not None:
            initialise_states(model.mllm, self.initialise)

    def tokens_per_frame(self, model: Any) -> int:
        """Vision tokens of one frame."""
        own = model.config.pipeline.get("frame_tokens") if self.frame_tokens is None else self.frame_tokens
        return int(model.mllm.num_image_tokens if own is None else own)

    def counts(self, model: Any, batch: ClipBatch) -> dict[str, int]:
        """What losses and weights are divided by, known before the forward pass.

        ``tokens``: supervised tokens. ``tokens_but_STATE``: those that are not this state, so that a state
        that does not occur in a whole step is told from one that occurs once.
        """
        return self._counted(self.chats(model, batch), state_ids(model.mllm.tokenizer))

    def chats(self, model: Any, batch: ClipBatch) -> list[ChatTokens]:
        """One (1, l) tokenised dialogue per sample.

        Raises:
            UserError: For samples with masks, without a dialogue, or longer than a row or the language model.
        """
        if batch.expressions:
            raise UserError(
                f"{type(self).__name__} learns dialogues, but {batch.ids[0]!r} is an expression with masks: "
                "leave its dataset out of train_dataloader"
            )
        prompts, tile_tokens = model.mllm.prompts, self.tokens_per_frame(model)
        limit = min(self.max_tokens, int(model.mllm.config.text_config.max_position_embeddings))
        chats = []
        for i, turns in enumerate(batch.dialogues):
            images = images_of_turns(batch, i)
            chat = prompts.turns(
                [[Turn(text, answer, n) for (text, answer), n in zip(turns, images, strict=True)]],
                tile_tokens=tile_tokens,
            )
            length = int(chat.input_ids.shape[1])
            if length > limit:
                raise UserError(
                    f"dialogue {batch.sample_ids[i]!r} has {length} tokens in {len(turns)} turns, at most "
                    f"{limit} fit: cut it into about {max(1, len(turns) * limit // length)} turns (max_turns "
                    "of its dataset), or use fewer frame_tokens"
                )
            chats.append(chat)
        return chats

    def turn_tokens(self, model: Any, question: str, turns: int) -> tuple[int, int]:
        """Length of a dialogue of so many turns of one frame, and its supervised tokens; for an estimate."""
        texts = [question + "\n" if i == 0 else "" for i in range(turns)]
        answer = "<Response> " + question
        talk = [
            Turn(f"{text}<{i}s-{i + 1}s>", "<Silence>" if i < turns - 1 else answer, 1)
            for i, text in enumerate(texts)
        ]
        chat = model.mllm.prompts.turns([talk], tile_tokens=self.tokens_per_frame(model))
        return int(chat.input_ids.shape[1]), int((chat.labels != IGNORE).sum())

    def losses(self, model: Any, batch: ClipBatch) -> dict[str, Tensor]:
        """``loss_text`` (with a graph), and statistics: recall and number of each state, size of the rows.

        ``recall_STATE_hits`` of ``recall_STATE_cases`` true states have the highest logit of the three.
        """
        ids, device = state_ids(model.mllm.tokenizer), model.mllm.device
        chats = self.chats(model, batch)
        own = self._counted(chats, ids)
        totals = {name: float(batch.totals.get(name, count)) for name, count in own.items()}
        counts = self._state_counts(own if self.loss.alpha == "micro" else totals)
        self._observe(batch, counts)
        tokens = self._vision(model, batch)
        rows = pack([int(chat.input_ids.shape[1]) for chat in chats], self.max_tokens)
        loss = torch.zeros((), device=device)
        hits = torch.zeros(len(STATES), 2, device=device)
        for number in range(self._most(len(rows))):
            row = rows[min(number, len(rows) - 1)]
            packed = [chats[i].to(device) for i in row]
            hidden = packed_hidden(model.mllm, packed, [tokens[i] for i in row])
            labels, owners = packed_labels(packed)
            wanted = labels[:, 1:] != IGNORE
            logits, targets = model.mllm.logits(hidden[:, :-1][wanted]), labels[:, 1:][wanted]
            keys = {
                "rows": owners[:, 1:][wanted],
                "counts": counts.to(device),
                "total": max(totals["tokens"], 1e-9),
            }
            value = self.loss(logits, targets, ids, **keys)
            if number >= len(rows):  # only so that all processes call the model equally often
                loss = loss + 0.0 * value
                continue
            loss = loss + value
            hits = hits + recall_of(logits.detach(), targets, ids)
        found = {"loss_text": loss}
        for i, state in enumerate(STATES):
            found[f"recall_{state}_hits"], found[f"recall_{state}_cases"] = hits[i, 0], hits[i, 1]
        length = sum(int(chat.input_ids.shape[1]) for chat in chats)
        return found | {"rows": hits.new_tensor(float(len(rows))), "tokens": hits.new_tensor(float(length))}

    def _counted(self, chats: Sequence[ChatTokens], ids: StateIds) -> dict[str, int]:
        targets = torch.cat([chat.labels[chat.labels != IGNORE] for chat in chats])
        but = {f"tokens_but_{s}": int((targets != at).sum()) for s, at in zip(STATES, ids.all, strict=True)}
        return {"tokens": len(targets), **but}

    def _state_counts(self, totals: dict[str, float] | dict[str, int]) -> Tensor:
        """(3,) float64 from what ``counts`` says."""
        found = [totals["tokens"] - totals[f"tokens_but_{state}"] for state in STATES]
        return torch.tensor(found, dtype=torch.float64).clamp(min=0)

    def _observe(self, batch: ClipBatch, counts: Tensor) -> None:
        """Tell a running mean of every optimizer step once: its micro-batches share one ``totals``."""
        if self.loss.alpha != "ema" or (batch.totals and batch.totals is self._observed):
            return
        self._observed = batch.totals
        self.loss.observe(counts)

    def _vision(self, model: Any, batch: ClipBatch) -> list[Tensor | None]:
        """(frames, n, D) pooled vision tokens of each sample, None where it has no frames."""
        frames = [frame for clip in batch.frames for frame in clip]
        if not frames:
            if self.uniform_calls:
                raise UserError(
                    "a batch without any frame cannot be trained with sharded parameters (ZeRO-3, FSDP): the "
                    "processes would call the model differently; use ZeRO-2 or plain data parallelism"
                )
            return [None] * len(batch.frames)
        size = self.encode_batch
        calls = [frames[at : at + size] for at in range(0, len(frames), size)]
        per_frame = self.tokens_per_frame(model)
        seen = [torch.cat(model.vision_tokens(some)) for some in calls]
        for _ in range(self._most(len(calls)) - len(calls)):
            idle = torch.cat(model.vision_tokens(frames[:1])).sum()
            seen[0] = seen[0] + 0.0 * idle
        pooled = pool_tokens(torch.cat(seen), per_frame)
        parts = pooled.split([len(clip) for clip in batch.frames])
        return [part if len(part) else None for part in parts]

    def _most(self, number: int) -> int:
        """The largest of the processes' numbers, where they must call the model equally often."""
        if not self.uniform_calls or not distributed.is_initialized():
            return number
        device = "cuda" if torch.cuda.is_available() else "cpu"
        most = torch.tensor(number, device=device)
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        return int(most)


def images_of_turns(batch: ClipBatch, sample: int) -> tuple[int, ...]:
    """Images of each turn; a dialogue that does not say has all its frames in the first.

    Raises:
        UserError: If the sample has no dialogue.
    """
    turns = batch.dialogues[sample]
    if not turns:
        raise UserError(f"sample {batch.sample_ids[sample]!r} has no dialogue to learn")
    given = batch.turn_images[sample] if batch.turn_images else ()
    return given or (len(batch.frames[sample]), *(0 for _ in turns[1:]))


def check_pooling_of(model: Any, frame_tokens: int) -> None:
    """Raise a ``UserError`` unless the model's vision tokens can be pooled so."""
    whole = int(model.mllm.num_image_tokens)
    if frame_tokens != whole:
        check_pooling(whole, frame_tokens)


def recall_of(logits: Tensor, targets: Tensor, ids: StateIds) -> Tensor:
    """(3, 2) float32: of each state, how often it is the best of the three where it is the truth, and how
    often it is the truth."""
    states = torch.tensor(ids.all, device=logits.device)
    best = states[logits[:, states].argmax(1)]
    true = targets[:, None] == states  # (M, 3)
    return torch.stack(((true & (best == targets)[:, None]).sum(0), true.sum(0)), dim=1).float()
