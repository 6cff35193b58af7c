"""What bounds a running dialogue: which segments stay when it gets full, and how the others leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from refstream.models.mllm.dialogue import Dialogue


class Eviction(Protocol):
    """How segments leave a dialogue: the seam for caches whose survivors are moved instead of run again."""

    def __call__(self, dialogue: Dialogue, keep: Sequence[int]) -> None:
        """Leave only the segments of these indices, in their order."""
        ...


def recompute(dialogue: Dialogue, keep: Sequence[int]) -> None:
    """The exact eviction: what is kept is run again, at positions without a gap, by one prefill.

    Keys and values of the kept rounds have seen the evicted ones in every layer but the first; only running
    them again makes the dialogue equal to one that never held the evicted rounds. Leading segments that stay
    (the sinks) have seen nothing else and keep their place in the cache.
    """
    dialogue.retain(keep)


@dataclass(frozen=True)
class DialogueWindow:
    """A bound on the tokens of a dialogue.

    When the next segment would not fit, the oldest half of the rounds leaves, whole segments only; half of
    them, so that a prefill is needed once per many rounds.

    Attributes:
        max_tokens: Most tokens at any time.
        keep: Kinds of segments that never leave (attention sinks; StreamingVLM, arXiv 2510.09608, keeps the
            prompt in the same way).
        reserve: Tokens left free for the answer when a segment begins.
        eviction: How segments leave.
    """

    max_tokens: int
    keep: tuple[str, ...] = ("system", "question")
    reserve: int = 64
    eviction: Eviction = recompute

    def __post_init__(self) -> None:
        if isinstance(self.keep, str):
            raise ValueError(f"keep must be a list of kinds of segments, got the text {self.keep!r}")
        object.__setattr__(self, "keep", tuple(self.keep))
        if self.reserve < 0 or self.max_tokens <= self.reserve:
            raise ValueError(
                f"a window needs max_tokens > reserve >= 0, got max_tokens={self.max_tokens} and "
                f"reserve={self.reserve}"
            )

    def kept(self, segments: Sequence[tuple[str, int]], length: int) -> list[int]:
        """Which segments stay so that one of ``length`` tokens and its answer fit.

        Args:
            segments: (kind, tokens) of each, in order.
            length: Tokens of the segment that begins.

        Returns:
            Indices of those that stay, in order; all of them while there is room.

        Raises:
            ValueError: If it does not fit even when every round has left.
        """
        rounds = [index for index, (kind, _) in enumerate(segments) if kind not in self.keep]
        sinks = sum(size for kind, size in segments if kind in self.keep)
        limit = self.max_tokens - self.reserve - length - sinks
        if limit < 0:
            raise ValueError(
                f"a segment of {length} tokens with {self.reserve} for its answer does not fit beside the "
                f"{sinks} tokens of kept segments {self.keep} into a window of {self.max_tokens}; raise "
                "max_tokens, or keep less"
            )
        while sum(segments[index][1] for index in rounds) > limit:
            rounds = rounds[(len(rounds) + 1) // 2 :]
        stay = set(rounds)
        return [i for i, (kind, _) in enumerate(segments) if kind in self.keep or i in stay]
