"""Greedy answers of several dialogues in fewer passes than tokens: guess and check.

Greedy decoding says a token per pass. Here the rest of an answer is guessed and fed at once. What the model
says at each place counts as long as every guess before it was right, so each pass makes at least one more
token certain; the wrong guesses behind it are forgotten. Where they were wrong, what this pass said is the
next guess: digits and judgements lean on the picture far more than on each other, and commas always come.

This is speculative decoding (Leviathan et al., 2023) with greedy acceptance and without a draft model, its
guesses those of Jacobi decoding (Santilli et al., 2023). The answers are those of a token per pass, up to
rounding: passes of another width round otherwise, which in bfloat16 turns a word here and there. SPOT (CVPR
2026) says nothing of decoding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile

import torch
from torch import Tensor

from refstream.models.mllm.chat_tokens import ChatTokens, token_piece

from .geometry import full_precision
from .parallel import ParallelDialogues
from .signals import SpotTokens


class Answer(ABC):
    """A running answer: tokens that are certain, and a guess at the rest.

    Places follow each other at a distance of 1 + ``len(between)`` tokens; ``between`` is always said.

    Args:
        guess: Indices or tokens, as ``token_at`` takes them.
        most: Places of the longest answer.
        between: Tokens between two places.
        ahead: Guesses that are fed per pass; None: all, 0: a place per pass.
    """

    def __init__(
        self, guess: Sequence[int], most: int, between: Sequence[int] = (), ahead: int | None = None
    ) -> None:
        self.certain: list[int] = []
        self.done = False
        self._guess, self._most, self._between = list(guess), most, list(between)
        self._ahead = most if ahead is None else ahead
        self._lead: list[int] = []  # tokens that are certain, but not fed
        self._fed: list[int] = []  # guesses of this pass

    @abstractmethod
    def choose(self, logits: Tensor) -> list[int]:
        """What is said at the next places, from (n, V) logits."""

    @abstractmethod
    def token_at(self, place: int, said: int) -> int:
        """The token of what is said."""

    def ends(self, said: int) -> bool:
        """Whether this ends the answer, and is no part of it."""
        return False

    def take(self, said: Sequence[int]) -> None:
        """These, which ``choose`` began with, became certain."""
        self.certain += said

    def revised(self, guess: Sequence[int], chosen: Sequence[int], kept: int) -> list[int]:
        """The next guess at what was ``chosen`` behind ``guess``, of which ``kept`` were right."""
        return list(chosen)

    def next_tokens(self, room: int) -> list[int]:
        """What to feed: tokens that are certain, then guesses, as many as there is room for.

        A guess at the last place is never fed: nothing would be read behind it.
        """
        lead, self._lead = self._lead, []
        start, step = len(self.certain), 1 + len(self._between)
        count = min(self._ahead, self._most - 1 - start, len(self._guess) - start)
        count = max(0, min(count, (room - len(lead)) // step))
        self._fed = self._guess[start : start + count]
        tokens = list(lead)
        for place, said in enumerate(self._fed, start):
            tokens += [self.token_at(place, said), *self._between]
        return tokens

    def reading_places(self, length: int) -> list[int]:
        """Where a piece of ``length`` tokens with these at its end predicts a place, one more than it
        guesses."""
        step = 1 + len(self._between)
        return [length - 1 - step * back for back in range(len(self._fed), -1, -1)]

    def hear(self, logits: Tensor) -> int:
        """Take (1 + guesses, V) logits of ``reading_places``; how many of the tokens fed must be
        forgotten."""
        start, chosen = len(self.certain), self.choose(logits)
        count, kept = 0, 0  # places that are certain, guesses that were right
        for said, guessed in zip(chosen, [*self._fed, None], strict=True):
            if self.ends(said):
                self.done = True
                break
            count += 1
            if said != guessed:
                self.done = start + count == self._most
                last = [] if self.done else self._between
                self._lead = [self.token_at(start + count - 1, said), *last]
                break
            kept += 1
        self.take(chosen[:count])
        self._guess[start : start + len(chosen)] = self.revised(self._guess[start:], chosen, kept)
        self._guess = self._guess[: next((k for k, one in enumerate(self._guess) if self.ends(one)), None)]
        return (len(self._fed) - kept) * (1 + len(self._between))

    @property
    def waiting(self) -> list[int]:
        """Of an answer that is done: its last token, where that was not fed."""
        return self._lead


class Spoken(Answer):
    """Free words, up to a token that ends them.

    Args:
        guesses: Tokens of what it may be, the likeliest first; each of the others is the next guess once all
            that is certain begins it.
        most: Tokens of the longest answer.
        stops: Tokens that end it.
        forbidden: Tokens that are never said.
        loose: Tokens that stand for each other, as digits do. Where a guess was wrong in such a one, its form
            is kept: behind a wrong digit, what a pass says may be out of step.
        ahead: As of ``Answer``.

    Attributes:
        certain: Its tokens.
    """

    def __init__(
        self,
        guesses: Sequence[Sequence[int]],
        most: int,
        *,
        stops: Collection[int],
        forbidden: Sequence[int] = (),
        loose: Collection[int] = (),
        ahead: int | None = None,
    ) -> None:
        self._stops, self._forbidden, self._loose = frozenset(stops), list(forbidden), frozenset(loose)
        likely, *self._others = [[*takewhile(lambda t: t not in self._stops, one)] for one in guesses]
        super().__init__(likely, most, ahead=ahead)

    def hear(self, logits: Tensor) -> int:
        """As of ``Answer``."""
        wrong = super().hear(logits)
        length = len(self.certain)
        for one in self._others:
            if len(one) > length and one[:length] == self.certain:
                self._guess = one
                self._others.remove(one)
                break
        return wrong

    def revised(self, guess: Sequence[int], chosen: Sequence[int], kept: int) -> list[int]:
        """What was chosen, in the form of the guess as long as that holds."""
        if kept < len(guess) and not {guess[kept], chosen[kept]} <= self._loose:
            return list(chosen)
        formed = [self._in_form(old, new) for old, new in zip(guess, chosen, strict=False)]
        return [*formed, *chosen[len(formed) :]]

    def _in_form(self, old: int, new: int) -> int:
        """A digit for a digit; other tokens stay, unless the answer ends there."""
        if old in self._loose:
            return new if new in self._loose else old
        return new if self.ends(new) else old

    def choose(self, logits: Tensor) -> list[int]:
        """The most probable tokens."""
        allowed = logits.clone()
        allowed[:, self._forbidden] = -torch.inf
        chosen: list[int] = allowed.argmax(-1).tolist()
        return chosen

    def token_at(self, place: int, said: int) -> int:
        """The token itself."""
        return said

    def ends(self, said: int) -> bool:
        """Whether it is the end of the turn."""
        return said in self._stops


class Judged(Answer):
    """One of two words per point.

    Args:
        guess: (K,) what it may be, > 0 on the object.
        tokens: Of judgements.
        ahead: As of ``Answer``.

    Attributes:
        certain: 0 where yes was said, 1 for no.
        heard: (n, 2) probabilities of yes and no over the whole vocabulary at the places that are certain, on
            the CPU, float32 or better.
    """

    def __init__(self, guess: Tensor, tokens: SpotTokens, *, ahead: int | None = None) -> None:
        said = [int(one <= 0) for one in guess.tolist()]
        super().__init__(said, len(said), tokens.separator, ahead)
        self._tokens = tokens
        self._both = self.heard = torch.zeros(0, 2)

    def choose(self, logits: Tensor) -> list[int]:
        """The more probable word, yes where they are equal."""
        start, values = len(self.certain), full_precision(logits)
        pairs = [self._tokens.candidates(start + k) for k in range(len(values))]
        both = values.gather(-1, torch.tensor(pairs, device=values.device))
        self._both = (both - values.logsumexp(-1, keepdim=True)).exp().cpu()
        return [int(one) for one in both.argmax(-1)]

    def token_at(self, place: int, said: int) -> int:
        """The word's token there."""
        return self._tokens.candidates(place)[said]

    def take(self, said: Sequence[int]) -> None:
        """Keep their probabilities, too."""
        super().take(said)
        self.heard = torch.cat((self.heard.to(self._both), self._both[: len(said)]))


@torch.no_grad()
def decode(
    talk: ParallelDialogues,
    answers: Mapping[int, Answer],
    questions: Mapping[int, ChatTokens],
    image_tokens: Mapping[int, Tensor] | None = None,
) -> None:
    """Ask some dialogues, and decode their answers side by side until all are done.

    An answer's last token waits in its dialogue where nothing was read behind it; the turns stay open.

    Args:
        talk: N dialogues.
        answers: By row.
        questions: (1, l) open turns, by the same rows.
        image_tokens: (..., D) vision tokens of the questions, by row.

    Raises:
        ValueError: If rows do not fit, or a dialogue gets longer than the language model takes.
    """
    if not answers or set(answers) != set(questions) or not set(answers) <= set(range(len(talk))):
        raise ValueError(f"need answers and questions of the same rows, got {[*answers]} and {[*questions]}")
    running, images = dict(answers), image_tokens or {}
    pieces = {row: _opened(talk, row, questions[row], one) for row, one in answers.items()}
    while running:
        states = talk.extend(
            [pieces.get(row) for row in range(len(talk))], [images.get(row) for row in range(len(talk))]
        )
        at = {row: one.reading_places(len(states[row])) for row, one in running.items()}
        logits = talk.mllm.logits(torch.cat([states[row][places] for row, places in at.items()]))
        parts = logits.split([len(places) for places in at.values()])
        wrong = [0] * len(talk)
        for row, part in zip(at, parts, strict=True):
            wrong[row] = running[row].hear(part)
        talk.forget(wrong)
        running, images = {row: one for row, one in running.items() if not one.done}, {}
        pieces = {row: token_piece(one.next_tokens(talk.room(row))) for row, one in running.items()}
    talk.defer([token_piece(answers[row].waiting) if row in answers else None for row in range(len(talk))])


def _opened(talk: ParallelDialogues, row: int, question: ChatTokens, answer: Answer) -> ChatTokens:
    """A question with the begin of its answer."""
    more = token_piece(answer.next_tokens(talk.room(row) - int(question.input_ids.shape[1])))
    both = {
        name: torch.cat((getattr(question, name), getattr(more, name)), dim=1)
        for name in ("input_ids", "attention_mask", "labels", "image_positions")
    }
    return ChatTokens(
        **both,
        context_positions=question.context_positions,
        seg_positions=question.seg_positions,
        image_slots=question.image_slots,
    )
