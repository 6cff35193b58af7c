"""What is asked and answered about MiniRVOS streams.

| Family | Task | Asked | Answered |
|---|---|---|---|
| narration | narration | all that happens | each happening, at its end |
| event_caption | event_caption | one kind of what takes time, of any shape | each, over its interval |
| action_caption | action_caption | what one object does | each action, over its interval |
| event_grounding | event_grounding | when one thing happens | its span "<3s-6s>", over its interval |
| count, colour | time_sensitive_qa | how many, which colour now | at once, and whenever it changes |
| past | time_sensitive_qa | what was at first or so far, in mid-stream | at once |
| interleaved | narration | all that happens; then, in mid-stream, something past | both |

What was not asked for happens too, often to objects that look alike; some event captions wait for what never
comes. Questions are asked while nothing is going on, so that nobody has to judge what began before. Names
hold for as long as they are needed: "the circle" if the stream has only one, else "the red circle" if no
other is ever red and this one is red from the question to the end of what is told.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from refstream.stream_records import StreamAnswer, StreamAsk, StreamRecord
from refstream.synthetic import streams_words as words
from refstream.synthetic.streams_happenings import Happening, HappeningKind
from refstream.synthetic.streams_truth import StreamTruth, quiet_time
from refstream.synthetic.streams_words import Told, pick, verb

TASK_OF: dict[str, str] = {
    "narration": "narration",
    "event_caption": "event_caption",
    "action_caption": "action_caption",
    "event_grounding": "event_grounding",
    "count": "time_sensitive_qa",
    "colour": "time_sensitive_qa",
    "past": "time_sensitive_qa",
    "interleaved": "narration",
}
"""Family of questions -> task, by the names of streaming instruction data."""
FAMILIES = tuple(TASK_OF)
TASKS = tuple(dict.fromkeys(TASK_OF.values()))
SOURCE = "minirvos_streams"

LASTING_KINDS: tuple[HappeningKind, ...] = ("enter", "leave", "fade", "touch")
ACTION_KINDS: tuple[HappeningKind, ...] = ("enter", "leave", "move", "touch")
_NEVER_SHARE = 0.1  # of event captions that ask for what does not happen again
_LATEST_ASK = 0.6  # of a standing question, as a share of the stream
_PAST = (0.4, 0.95)  # when the past is asked about


class _Asker:
    """Draws questions about one stream."""

    def __init__(self, truth: StreamTruth, rng: np.random.Generator, ask_late: float) -> None:
        self.truth, self.rng, self.ask_late = truth, rng, ask_late

    def standing_time(self) -> float:
        """When a question that waits for something is asked: at the start, or later."""
        late = self.rng.random() < self.ask_late
        return quiet_time(self.truth, self.rng, 1.0, _LATEST_ASK * self.truth.duration_s) if late else 0.0

    def past_time(self) -> float:
        """When a question about what was is asked."""
        duration = self.truth.duration_s
        return quiet_time(self.truth, self.rng, _PAST[0] * duration, min(_PAST[1] * duration, duration - 1.5))

    def answer(self, happening: Happening, text: str, ask: int = 0) -> StreamAnswer:
        """Over the interval of what takes time, at the moment of what does not."""
        start, end = self.truth.seconds(happening.start), self.truth.seconds(happening.end)
        return StreamAnswer(text, end, start if happening.start < happening.end else None, ask)

    def moment(self, happening: Happening, text: str, ask: int = 0) -> StreamAnswer:
        """At its end."""
        return StreamAnswer(text, self.truth.seconds(happening.end), None, ask)

    # ------------------------------------------------------------------ the families

    def narration(self) -> Drawn | None:
        time_s = self.standing_time()
        told = [self.moment(h, self.truth.caption(h)) for h in self.truth.after(time_s)]
        return [StreamAsk(pick(words.NARRATION, self.rng), time_s)], told

    def event_caption(self) -> Drawn | None:
        time_s = self.standing_time()
        later = {h.kind for h in self.truth.after(time_s)}
        kinds = [kind for kind in LASTING_KINDS if kind in later]
        never = [kind for kind in LASTING_KINDS if kind not in later]
        options = never if never and (self.rng.random() < _NEVER_SHARE or not kinds) else kinds
        kind = pick(options, self.rng)
        text = pick(words.EVENT_CAPTION, self.rng).format(verb=words.ANY_SHAPE[kind][0])
        told = [self.answer(h, self.truth.caption(h)) for h in self.truth.after(time_s, [kind])]
        return [StreamAsk(text, time_s)], told

    def action_caption(self) -> Drawn | None:
        time_s = self.standing_time()
        last = self.truth.scene.num_frames - 1
        options = []
        for index in range(len(self.truth.scene.objects)):
            actions = [h for h in self.truth.after(time_s, ACTION_KINDS) if h.object_id == index]
            names = self.truth.names(index, self.truth.frame_at(time_s), last)
            if actions and names:
                options.append((names, actions))
        if not options:
            return None
        names, actions = options[int(self.rng.integers(len(options)))]
        text = pick(words.ACTION_CAPTION, self.rng).format(who=pick(names, self.rng))
        return [StreamAsk(text, time_s)], [self.answer(h, self.truth.caption(h)) for h in actions]

    def event_grounding(self) -> Drawn | None:
        time_s = self.standing_time()
        first = self.truth.frame_at(time_s)
        options = []
        for h in self.truth.after(time_s, LASTING_KINDS):
            same = (x for x in self.truth.happenings if (x.kind, x.object_id) == (h.kind, h.object_id))
            names = self.truth.names(h.object_id, first, h.end - 1)
            whom = [] if h.other_id is None else self.truth.names(h.other_id, first, h.end)
            if len(list(same)) == 1 and names and (whom or h.other_id is None):
                options.append((h, names, whom))
        if not options:
            return None
        h, names, whom = options[int(self.rng.integers(len(options)))]
        told = Told(h.kind, pick(names, self.rng), pick(whom, self.rng) if whom else "", h.value)
        text = pick(words.EVENT_GROUNDING, self.rng).format(who=told.who, verb=verb(told))
        return [StreamAsk(text, time_s)], [self.answer(h, self.truth.span(h))]

    def count(self) -> Drawn | None:
        time_s = self.standing_time()
        answers = [StreamAnswer(str(self.truth.count(self.truth.frame_at(time_s))), time_s)]
        for h in self.truth.after(time_s, ("enter", "leave")):
            answers.append(self.moment(h, str(self.truth.count(h.end))))
        return [StreamAsk(pick(words.COUNT_NOW, self.rng), time_s)], answers

    def colour(self) -> Drawn | None:
        time_s = self.standing_time()
        frame = self.truth.frame_at(time_s)
        options = []
        for index in range(len(self.truth.scene.objects)):
            changes = [h for h in self.truth.after(time_s, ("recolour", "fade")) if h.object_id == index]
            names = self.truth.names(index, frame, self.truth.scene.num_frames - 1)
            present = self.truth.inside(index, frame) and not any(
                h.object_id == index for h in self.truth.after(time_s, ("leave",))
            )
            if changes and names and present:
                options.append((index, names, changes))
        if not options:
            return None
        index, names, changes = options[int(self.rng.integers(len(options)))]
        text = pick(words.COLOUR_NOW, self.rng).format(who=pick(names, self.rng))
        answers = [StreamAnswer(self.truth.colour(index, frame), time_s)]
        return [StreamAsk(text, time_s)], answers + [self.moment(h, h.value) for h in changes]

    def past(self) -> Drawn | None:
        time_s = self.past_time()
        if time_s == 0:
            return None
        text, answer = self._past(time_s)
        return [StreamAsk(text, time_s)], [StreamAnswer(answer, time_s)]

    def interleaved(self) -> Drawn | None:
        time_s = self.past_time()
        if time_s == 0:
            return None
        asks, told = [StreamAsk(pick(words.NARRATION, self.rng), 0.0)], []
        told = [self.moment(h, self.truth.caption(h)) for h in self.truth.after(0.0)]
        text, answer = self._past(time_s)
        asks.append(StreamAsk(text, time_s))
        return asks, [*told, StreamAnswer(answer, time_s, None, 1)]

    def _past(self, time_s: float) -> tuple[str, str]:
        """A question about what was before a time, and its answer."""
        frame = self.truth.frame_at(time_s)
        options: list[tuple[str, str]] = []
        for index, obj in enumerate(self.truth.scene.objects):
            changed = self.truth.colour(index, frame) != obj.colour
            names = [n for n in self.truth.names(index, 0, frame) if obj.colour not in n.split()]
            if changed and names and self.truth.inside_at_first(index):
                text = pick(words.COLOUR_FIRST, self.rng).format(who=pick(names, self.rng))
                options.append((text, obj.colour))
        draw = self.rng.random()
        if options and draw < 0.5:
            return options[int(self.rng.integers(len(options)))]
        if draw < 0.75:
            return pick(words.COUNT_FIRST, self.rng), str(self.truth.count(0))
        kind = pick(list(words.EVER_VERBS), self.rng)
        ever = any(h.kind == kind and h.end <= frame for h in self.truth.happenings)
        number = int(self.rng.integers(len(words.EVER)))
        text = words.EVER[number].format(verb=words.EVER_VERBS[kind][number])
        return text, words.YES if ever else words.NO


Drawn = tuple[list[StreamAsk], list[StreamAnswer]]
_WAYS: dict[str, Callable[[_Asker], Drawn | None]] = {
    "narration": _Asker.narration,
    "event_caption": _Asker.event_caption,
    "action_caption": _Asker.action_caption,
    "event_grounding": _Asker.event_grounding,
    "count": _Asker.count,
    "colour": _Asker.colour,
    "past": _Asker.past,
    "interleaved": _Asker.interleaved,
}


def stream_records(
    family: str, truth: StreamTruth, rng: np.random.Generator, name: str, ask_late: float
) -> list[StreamRecord]:
    """The record of a family, if the stream can show it.

    Args:
        family: One of ``FAMILIES``.
        truth: Of the stream.
        rng: The only source of randomness.
        name: The stream's id.
        ask_late: Share of the standing questions that are asked in mid-stream.

    Returns:
        One record or none; its id is "<name>/<family>", its video "<name>.mp4".
    """
    drawn = _WAYS[family](_Asker(truth, rng, ask_late))
    if drawn is None:
        return []
    asks, answers = drawn
    ordered = sorted(answers, key=lambda a: a.end_s)
    return [
        StreamRecord(
            video=f"{name}.mp4",
            task=TASK_OF[family],
            asks=tuple(asks),
            answers=tuple(ordered),
            duration_s=truth.duration_s,
            id=f"{name}/{family}",
            source=SOURCE,
        )
    ]
