"""What is asked and answered over a video -> one turn per interval, with a state to decide in each.

Source: Streamo (CVPR 2026), section 3: a turn is one second of video with its tag, and the model says that
nothing matters yet (silence), that something is under way (standby), or answers (response). The rules are
ours where the public converter loses or leaks (see ``release``). Turn k sees the frame at k/fps and no later
one.

- A question at q stands in the turn of the interval that contains q.
- An answer that speaks of [start, end]: standby from the turn that contains start; response in the first turn
  that begins at or after end, whose frame shows that it is over.
- An answer that speaks of a moment t: response in the first turn that begins at or after t.
- What is over only when the video is (its turn would come after the last one): response in the last turn.
- What was over before its question: response in the question's turn, as it is known already; and no standby
  before the question.
- Several answers in one turn are all given, in the order of their ends; a response hides another answer's
  standby.

A question after the end of the video, or an answer that ends more than one interval after it, is an error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from refstream.errors import UserError
from refstream.stream_records import StreamAnswer, StreamRecord

from .clock import TOLERANCE_S, StreamClock, interval_label
from .states import STATE_TOKENS, STATES

State = Literal["silence", "standby", "response"]


@dataclass(frozen=True)
class StreamTurn:
    """One interval of a stream: what is asked in it, and what is to be said at its frame.

    Attributes:
        start_s, end_s: The interval in seconds of the video; its frame is the first one at or after the
            start.
        asks: Questions that come up in it, in the order of time.
        state: What is to be decided.
        answers: What is to be said; not empty exactly if the state is "response".
        answers_to: For each answer, which of the dialogue's questions it belongs to, counted from 0 over the
            questions of all turns.

    Raises:
        ValueError: If state and answers disagree.
    """

    start_s: float
    end_s: float
    asks: tuple[str, ...] = ()
    state: State = "silence"
    answers: tuple[str, ...] = ()
    answers_to: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"a state must be one of {STATES}, got {self.state!r}")
        if bool(self.answers) != (self.state == "response") or len(self.answers) != len(self.answers_to):
            raise ValueError(
                f"turn {self.label}: state {self.state!r} with answers {self.answers} to {self.answers_to}"
            )

    @property
    def label(self) -> str:
        """The tag of the interval, e.g. ``<3s-4s>``."""
        return interval_label(self.start_s, self.end_s)

    def user_text(self) -> str:
        """The questions, one per line, and the tag on a line of its own; the picture follows it."""
        return "\n".join((*self.asks, self.label))

    def assistant_text(self, tokens: Sequence[str] = STATE_TOKENS) -> str:
        """The state's token (of those of ``STATES``), and for a response its answers, joined by spaces."""
        return " ".join((tokens[STATES.index(self.state)], *self.answers))


@dataclass(frozen=True)
class StreamDialogue:
    """The turns of a video, or of a part of it.

    Attributes:
        video: Path or name of the video.
        task: The source's name of the task.
        turns: One per interval of the clock, in order, at least one.
        clock: Of the intervals.
        id: Names the dialogue in logs; empty if the source has no name for it.
        source: Where it comes from.
        system: The system message it came with; empty for none.

    Raises:
        ValueError: If there is no turn.
    """

    video: str
    task: str
    turns: tuple[StreamTurn, ...]
    clock: StreamClock
    id: str = ""
    source: str = ""
    system: str = ""

    def __post_init__(self) -> None:
        if not self.turns:
            raise ValueError(f"the dialogue over {self.video!r} has no turn")

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return self.id or self.video

    def state_counts(self) -> dict[State, int]:
        """How many turns are in each state."""
        counts = Counter(turn.state for turn in self.turns)
        return {state: counts[state] for state in get_args(State)}


def compile_record(
    record: StreamRecord, clock: StreamClock, duration_s: float | None = None, *, ongoing: bool = False
) -> StreamDialogue:
    """The dialogue of a record, by the rules at the head of this module.

    Args:
        record: Questions and answers in seconds.
        clock: How many turns a second has.
        duration_s: Length of the video in seconds; the record's own if None.
        ongoing: The stream goes on after ``duration_s``: what is asked and answered later is not known yet.
            The turns are then the first ones of the whole stream's dialogue.

    Raises:
        UserError: If the video has no length, or a question or answer lies outside of it; names the record.
    """
    name = f"record {record.id or record.video!r}"
    duration = record.duration_s if duration_s is None else duration_s
    if duration is None:
        raise UserError(f"{name}: how long is the video? The record does not say; give duration_s")
    if not math.isfinite(duration) or duration <= TOLERANCE_S:
        raise UserError(f"{name}: the video must be longer than 0 s, got {duration} s")
    count = clock.intervals(duration)
    if not ongoing:
        _check_inside(record, clock, duration, name)
    ask_turns = [clock.interval_at(ask.time_s) for ask in record.asks]
    asks: list[list[str]] = [[] for _ in range(count)]
    for ask, turn in zip(record.asks, ask_turns, strict=True):
        if turn < count:
            asks[turn].append(ask.text)
    said: list[list[StreamAnswer]] = [[] for _ in range(count)]
    standby = [False] * count
    for answer in record.answers:
        asked = ask_turns[answer.ask]
        told = max(clock.first_from(answer.end_s), asked)
        told = told if ongoing else min(told, count - 1)
        if told < count:
            said[told].append(answer)
        if answer.start_s is not None:
            for turn in range(max(clock.interval_at(answer.start_s), asked), min(told, count)):
                standby[turn] = True
    turns = tuple(
        StreamTurn(
            start_s=clock.start(k),
            end_s=clock.start(k + 1),
            asks=tuple(asks[k]),
            state="response" if said[k] else "standby" if standby[k] else "silence",
            answers=tuple(answer.text for answer in said[k]),
            answers_to=tuple(answer.ask for answer in said[k]),
        )
        for k in range(count)
    )
    return StreamDialogue(record.video, record.task, turns, clock, record.id, record.source)


def _check_inside(record: StreamRecord, clock: StreamClock, duration: float, name: str) -> None:
    """Refuse what lies after the end of the video; an answer may end up to one interval after it."""
    count, step = clock.intervals(duration), 1 / clock.fps
    for ask in record.asks:
        if clock.interval_at(ask.time_s) >= count or ask.time_s > duration + TOLERANCE_S:
            raise UserError(
                f"{name}: question {ask.text!r} is asked at {ask.time_s:g} s, after the end of the video at "
                f"{duration:g} s; correct its time or take it out"
            )
    for answer in record.answers:
        if answer.end_s > duration + step + TOLERANCE_S:
            raise UserError(
                f"{name}: answer {answer.text!r} ends at {answer.end_s:g} s, more than one interval "
                f"({step:g} s) after the end of the video at {duration:g} s; correct its times or take it out"
            )


def truncate(dialogue: StreamDialogue, num_turns: int) -> StreamDialogue:
    """The first turns of a dialogue: what is known of the stream after ``num_turns`` intervals.

    It equals ``compile_record(..., duration_s=num_turns / fps, ongoing=True)``.

    Raises:
        ValueError: If there are not that many turns, or fewer than one is asked for.
    """
    if not 1 <= num_turns <= len(dialogue.turns):
        raise ValueError(f"{dialogue.name} has {len(dialogue.turns)} turns, cannot keep {num_turns}")
    return replace(dialogue, turns=dialogue.turns[:num_turns])


def chunks(dialogue: StreamDialogue, max_turns: int, overlap: int = 0) -> list[StreamDialogue]:
    """A dialogue in pieces of at most ``max_turns`` turns, all of it in at least one of them.

    Tags stay those of the whole video. The first turn of a piece repeats the questions that are still open:
    those that will be answered in it or later, those never answered, and standing ones, which are answered
    more than once. A piece in which nothing would be asked repeats the last question before it, as a running
    stream keeps its question when its answer has left the window.

    Args:
        dialogue: Of any length; one that is not too long comes back as it is.
        max_turns: Longest piece, in turns.
        overlap: How many turns a piece repeats of the one before; less than ``max_turns``.

    Raises:
        ValueError: If the numbers are impossible.
    """
    if max_turns < 1 or not 0 <= overlap < max_turns:
        raise ValueError(
            f"chunks need max_turns >= 1 and 0 <= overlap < max_turns, got {max_turns}, {overlap}"
        )
    if len(dialogue.turns) <= max_turns:
        return [dialogue]
    return [
        _chunk(dialogue, start, max_turns) for start in chunk_starts(len(dialogue.turns), max_turns, overlap)
    ]


def chunk_starts(num_turns: int, max_turns: int, overlap: int = 0) -> range:
    """The first turns of the pieces that ``chunks`` cuts."""
    return range(0, max(num_turns - overlap, 1), max_turns - overlap)


def _chunk(dialogue: StreamDialogue, start: int, max_turns: int) -> StreamDialogue:
    turns = dialogue.turns[start : start + max_turns]
    earlier = [text for turn in dialogue.turns[:start] for text in turn.asks]
    kept = _open_questions(dialogue.turns, start, len(earlier))
    if not kept and earlier and not any(turn.asks for turn in turns):
        kept = [len(earlier) - 1]
    new_number = {question: number for number, question in enumerate(kept)}
    num_own = sum(len(turn.asks) for turn in turns)
    new_number |= {len(earlier) + own: len(kept) + own for own in range(num_own)}
    turns = tuple(replace(t, answers_to=tuple(new_number[q] for q in t.answers_to)) for t in turns)
    first = replace(turns[0], asks=(*(earlier[q] for q in kept), *turns[0].asks))
    span = interval_label(first.start_s, turns[-1].end_s)[1:-1]
    return replace(dialogue, turns=(first, *turns[1:]), id=f"{dialogue.name} {span}")


def _open_questions(turns: Sequence[StreamTurn], start: int, num_earlier: int) -> list[int]:
    """Which of the first questions, all asked before turn ``start``, still matter from there on."""
    times_answered = Counter(q for turn in turns for q in turn.answers_to)
    to_come = {q for turn in turns[start:] for q in turn.answers_to}
    return [q for q in range(num_earlier) if q in to_come or times_answered[q] != 1]
