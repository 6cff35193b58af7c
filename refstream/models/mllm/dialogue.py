"""A dialogue that runs on in the key-value cache: each new piece is fed once, nothing is sent again.

A dialogue is a row of segments (the system turn, questions, rounds), a segment a row of pieces, and a piece
some tokens with their input embeddings. The pieces say what the cache has to hold; the cache follows them:
whatever it shares with them from the start stays, the rest is cut off and run. Undoing a tentative answer,
evicting old rounds and restoring a snapshot are therefore all exact: what comes next sees what a fresh
prefill of the same pieces would see. (Streaming models that resubmit the dialogue every second rely on a
server's prefix cache for that, and lose it as soon as their window slides.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from refstream.models.mllm.chat_tokens import ChatTokens
from refstream.models.mllm.window import DialogueWindow
from refstream.models.protocols import DialogueMLLM


@dataclass(frozen=True, eq=False)
class Piece:
    """Tokens that were fed together.

    Attributes:
        chat: (1, L) tokens, on the model's device.
        embeds: (1, L, D) input embeddings, vision tokens included.
    """

    chat: ChatTokens
    embeds: Tensor

    def __len__(self) -> int:
        return int(self.embeds.shape[1])


@dataclass(frozen=True, eq=False)
class Segment:
    """What is kept or evicted as a whole.

    Attributes:
        kind: ``system``, ``question`` or ``round``, or a word of one's own.
        pieces: In the order of the dialogue; none is empty.
    """

    kind: str
    pieces: tuple[Piece, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.pieces))


class Snapshot(NamedTuple):
    """A point of a dialogue to come back to; holds no part of the cache."""

    segments: tuple[Segment, ...]


class _Mark(NamedTuple):
    """How far the cache has come after a piece."""

    piece: Piece
    num_tokens: int
    next_position: int


class Dialogue:
    """One running dialogue (batch size 1, no gradients).

    Args:
        mllm: The model; it must not change while the dialogue runs.
        window: Bounds the number of tokens; None lets it grow up to what the language model takes.
        inputs_on: Device on which input embeddings wait in case they must be run again; None where they are.

    Attributes:
        cache: transformers' cache; holds ``num_cached`` tokens.
        evicted: Segments that the window has removed so far.
    """

    def __init__(
        self,
        mllm: DialogueMLLM,
        window: DialogueWindow | None = None,
        *,
        inputs_on: torch.device | str | None = None,
    ) -> None:
        self.mllm = mllm
        self.window = window
        self.inputs_on = inputs_on
        self.cache = mllm.new_cache()
        self.evicted = 0
        self._segments: list[Segment] = []
        self._num_tokens = 0
        self._marks: list[_Mark] = []
        self._pending: list[Piece] = []
        self._stale = False

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What the dialogue is made of, those evicted not among them."""
        return tuple(self._segments)

    @property
    def num_tokens(self) -> int:
        """Tokens of the dialogue."""
        return self._num_tokens

    @property
    def num_cached(self) -> int:
        """Tokens in the cache; not ``num_tokens`` while pieces wait to be run, or others to be cut off."""
        return self._marks[-1].num_tokens if self._marks else 0

    @property
    def room(self) -> int | None:
        """Tokens that the last segment may still grow by; None without a window."""
        return None if self.window is None else self.window.max_tokens - self._num_tokens

    @torch.no_grad()
    def add(
        self, chat: ChatTokens, image_tokens: Tensor | None = None, *, segment: str | None = None
    ) -> None:
        """Put a piece at the end; it is run together with the next ``append``.

        Args:
            chat: (1, L) tokens without padding; L = 0 adds nothing to the segment.
            image_tokens: (..., D) vision tokens for its places; None if it has none.
            segment: Kind of the segment that begins here, for which the window makes room; None goes on with
                the last one.

        Raises:
            ValueError: If there is no segment yet, the chat is no single dialogue, or there is no room.
        """
        if chat.batch_size != 1 or not bool(chat.attention_mask.all()):
            raise ValueError(
                f"a dialogue takes one row without padding, got {chat.batch_size} rows or padding"
            )
        if segment is None and not self._segments:
            raise ValueError('the first piece of a dialogue needs a segment, for example segment="system"')
        length = int(chat.input_ids.shape[1])
        if segment is None and self.room is not None and length > self.room:
            raise ValueError(
                f"{length} tokens do not fit into the room of {self.room} that this round has left; give the "
                "window a larger reserve, or answer in fewer tokens"
            )
        chat = chat.to(self.mllm.device)
        embeds = self.mllm.embed(chat, image_tokens)
        if segment is not None:
            self._make_room(length)
            self._segments.append(Segment(segment))
        if length == 0:
            return
        piece = Piece(chat, embeds if self.inputs_on is None else embeds.to(self.inputs_on))
        last = self._segments[-1]
        self._segments[-1] = Segment(last.kind, (*last.pieces, piece))
        self._num_tokens += length
        self._pending.append(piece)

    @torch.no_grad()
    def append(
        self, chat: ChatTokens, image_tokens: Tensor | None = None, *, segment: str | None = None
    ) -> Tensor:
        """``add`` a piece and run all that waits.

        Returns:
            (1, L, D) final-norm hidden states of this piece.

        Raises:
            ValueError: As of ``add``, or if the dialogue gets longer than the language model takes.
        """
        self.add(chat, image_tokens, segment=segment)
        length = int(chat.input_ids.shape[1])
        hidden = self._run()
        return hidden[:, hidden.shape[1] - length :]

    def end_turn(self) -> None:
        """Add the end-of-turn token; it is run with the next ``append``."""
        self.add(self.mllm.prompts.turn_closing(""))

    def snapshot(self) -> Snapshot:
        """The dialogue as it is now."""
        return Snapshot(self.segments)

    def crop(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot; segments that were evicted since come back (and are run again)."""
        self._replace(snapshot.segments)

    def retain(self, indices: Sequence[int]) -> None:
        """Leave only these segments.

        Those after the first gap have seen what was removed; the next ``append`` runs them again.
        """
        kept = sorted(set(indices))
        if kept and not 0 <= kept[0] <= kept[-1] < len(self._segments):
            raise ValueError(f"segments are 0 ... {len(self._segments) - 1}, got {list(indices)}")
        self.evicted += len(self._segments) - len(kept)
        self._replace([self._segments[index] for index in kept])

    def _replace(self, segments: Sequence[Segment]) -> None:
        self._segments = list(segments)
        self._num_tokens = sum(map(len, self._segments))
        self._stale = True

    def _make_room(self, length: int) -> None:
        """Let the window evict before a segment of ``length`` tokens begins."""
        if self.window is None:
            return
        kept = self.window.kept([(s.kind, len(s)) for s in self._segments], length)
        if len(kept) < len(self._segments):
            self.window.eviction(self, kept)

    def _run(self) -> Tensor:
        """(1, n, D) hidden states of all tokens that the cache lacked; now it holds the whole dialogue."""
        if self._stale:
            self._cut()
        pieces = self._pending
        if not pieces:
            return torch.zeros(1, 0, self.mllm.hidden_size, device=self.mllm.device)
        cached, position = self._marks[-1][1:] if self._marks else (0, 0)
        places, marks = [], []
        for piece in pieces:
            where, position = self.mllm.positions(piece.chat, position)
            cached += len(piece)
            places.append(where)
            marks.append(_Mark(piece, cached, position))
        embeds = torch.cat([piece.embeds.to(self.mllm.device) for piece in pieces], dim=1)
        hidden = self.mllm.extend(embeds, torch.cat(places, dim=-1), self.cache)
        if self.cache.get_seq_length() != cached:
            raise RuntimeError(
                f"the cache holds {self.cache.get_seq_length()} tokens where {cached} were fed; put the "
                "model into eval mode (gradient checkpointing turns the cache off)"
            )
        self._marks += marks
        self._pending = []
        return hidden

    def _cut(self) -> None:
        """Cut from the cache what does not lead the dialogue any more; the rest of the dialogue waits."""
        pieces = [piece for segment in self._segments for piece in segment.pieces]
        same = 0
        for mark, piece in zip(self._marks, pieces, strict=False):
            if mark.piece is not piece:
                break
            same += 1
        surplus = self.num_cached - (self._marks[same - 1].num_tokens if same else 0)
        if same == 0:
            self.cache = self.mllm.new_cache()
        elif surplus:
            self.cache.crop(-surplus)
        self._marks = self._marks[:same]
        self._pending = pieces[same:]
        self._stale = False
