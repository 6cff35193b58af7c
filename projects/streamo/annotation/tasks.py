"""The five tasks of Streamo in one protocol: every task is questions with a time and answers with a boundary.

| Task | Asked | Answered |
|---|---|---|
| narration | once, at the start | at each second in which something is new |
| event_caption | once, at the start | at the end of each part of the video, whose stretch it speaks of |
| action_caption | once, at the start | at the end of each stretch in which something moves |
| event_grounding | once, at the start, with a caption | at its end, with its stretch as an interval tag |
| time_sensitive_qa | once, at the start | at each second from which on the answer is another one |

Source: Streamo (CVPR 2026), section 3.3, names the tasks and what each is made with; how they map to times is
not public but for one example of a question, so this mapping is ours (assumed).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from refstream.stream_records import StreamAnswer, StreamAsk, StreamRecord

from ..clock import interval_label
from ..states import holds_state_token
from . import prompts
from .captioners import Captioner
from .changes import segments
from .checks import Event, Finding, Limits, check_events
from .prompts import Prompt
from .watching import WatchedVideo

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "narration": (
        "Tell me what changes as the video goes on.",
        "Narrate the video in real time.",
        "Keep me up to date: say what is new whenever something is.",
    ),
    "event_caption": (
        "Describe each event as soon as it is over.",
        "Whenever a part of the video ends, tell me what happened in it.",
    ),
    "action_caption": (
        "Name each action as soon as it is completed.",
        "Whenever someone or something has finished doing something, tell me what it was.",
    ),
    "event_grounding": (
        'Tell me when this has happened, and from when to when: "{event}"',
        'Watch for the following event and give its time span once it is over: "{event}"',
    ),
    "time_sensitive_qa": ("{question} Tell me again whenever the answer changes.",),
}
"""By task: the words of the question, of which each video gets one."""


@dataclass(frozen=True)
class TaskOptions:
    """How the tasks are annotated.

    Attributes:
        limits: What events must keep to.
        overview: Most frames that show a whole video.
        recent: How many frames, the new one last, are shown to narrate what is new.
        stable: An answer has changed once it was another one so many seconds in a row.
        max_groundings: Most events of one video that are asked for.
        seed: Chooses among the instructions.
    """

    limits: Limits = field(default_factory=Limits)
    overview: int = 16
    recent: int = 4
    stable: int = 2
    max_groundings: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.overview, self.stable) < 1 or self.recent < 2 or self.max_groundings < 0:
            raise ValueError(
                "overview and stable must be at least 1, recent at least 2, max_groundings at least 0, "
                f"got {self}"
            )


class Annotator:
    """Annotates one video with one captioner.

    Args:
        video: The video.
        captioner: Who looks at it.
        options: How.

    Attributes:
        findings: What was mended or left out so far.
    """

    def __init__(self, video: WatchedVideo, captioner: Captioner, options: TaskOptions) -> None:
        self.video, self.captioner, self.options = video, captioner, options
        self.findings: list[Finding] = []
        self._captions: list[Event] | None = None

    def records(self, task: str) -> list[StreamRecord]:
        """The records of one task: none if there is nothing to tell.

        Raises:
            KeyError: For a task that is none of ``records.TASKS``.
        """
        return _ANNOTATORS[task](self)

    def narration(self) -> list[StreamRecord]:
        """What is new in each frame, told from it and the frames just before it."""
        events: list[Event] = []
        for k in range(1, len(self.video.times)):
            seen = slice(max(0, k + 1 - self.options.recent), k + 1)
            text = self._ask(self.video.frames[seen], self.video.times[seen], prompts.NARRATION)
            event = Event(text, float(self.video.times[k]))
            if prompts.says_nothing(text):
                continue
            if events and prompts.same_words(events[-1].text) == prompts.same_words(text):
                self._found("repeated", "narration", event)
                continue
            events.append(event)
        return self._standing("narration", self._checked("narration", events))

    def event_captions(self) -> list[StreamRecord]:
        """A caption for each part between two changes of the picture."""
        return self._standing("event_caption", self._parts())

    def action_captions(self) -> list[StreamRecord]:
        """A caption for each stretch in which something moves."""
        spans = [(motion.start_s, motion.end_s) for motion in self.video.motions]
        return self._standing("action_caption", self._captioned("action_caption", spans, prompts.ACTION))

    def groundings(self) -> list[StreamRecord]:
        """The events whose words fit one part of several alone, each asked for in a record of its own."""
        parts = self._parts()
        if len(parts) < 2:  # the span of a video that is one event needs no watching
            return []
        records: list[StreamRecord] = []
        for index, event in enumerate(parts):
            if len(records) == self.options.max_groundings:
                break
            others = [other for other in parts if other is not event]
            if not self._is_unique(event, others):
                continue
            span = interval_label(event.begin_s, event.end_s)
            ask = self._instruction("event_grounding").format(event=event.text)
            answer = StreamAnswer(span, event.end_s, event.start_s)
            records.append(self._record("event_grounding", ask, (answer,), index))
        return records

    def questions(self) -> list[StreamRecord]:
        """One question whose answer changes, and every answer from the second on in which it holds."""
        question = self._ask(*self.video.thinned(self.options.overview), prompts.QUESTION)
        if prompts.says_nothing(question):
            return []
        task, whole = "time_sensitive_qa", Event(question, self.video.duration_s, 0.0)
        if not prompts.is_question(question) or holds_state_token(question):
            self._found("malformed", task, whole)
            return []
        prompt = prompts.answer_to(question)
        replies = [
            self._ask(self.video.frames[k : k + 1], self.video.times[k : k + 1], prompt)
            for k in range(len(self.video.times))
        ]
        events = [
            Event(text, float(self.video.times[k]))
            for k, text in stable_changes(replies, self.options.stable)
        ]
        events = self._checked(task, events)
        if len(events) < 2:  # nothing that depends on the time
            self._found("ambiguous", task, whole)
            return []
        ask = self._instruction(task).format(question=question.rstrip("? ") + "?")
        return [self._record(task, ask, tuple(StreamAnswer(e.text, e.end_s) for e in events))]

    # ------------------------------------------------------------------ shared

    def _parts(self) -> list[Event]:
        """The captions of the parts between changes; two tasks share them."""
        if self._captions is None:
            video = self.video
            spans = segments(video.changes, video.duration_s, self.options.limits.min_s)
            self._captions = self._captioned("event_caption", spans, prompts.EVENT)
        return self._captions

    def _captioned(self, task: str, spans: list[tuple[float, float]], prompt: Prompt) -> list[Event]:
        events = [
            Event(self._ask(*self.video.clip(start_s, end_s), prompt), end_s, start_s)
            for start_s, end_s in spans
        ]
        return self._checked(task, events)

    def _is_unique(self, event: Event, others: list[Event]) -> bool:
        """Whether the captioner finds the event in its part and in no other one."""
        prompt = prompts.verify(event.text)
        for part in (event, *others):
            reply = self._ask(*self.video.clip(part.begin_s, part.end_s), prompt)
            found = prompts.yes_or_no(reply)
            if found is None:
                self._found("malformed", "event_grounding", Event(reply, part.end_s, part.start_s))
                return False
            if found != (part is event):
                self._found("ambiguous" if found else "unconfirmed", "event_grounding", event)
                return False
        return True

    def _ask(self, frames: np.ndarray, times: np.ndarray, prompt: Prompt) -> str:
        return prompts.tidy(self.captioner.caption(np.asarray(frames), times, prompt))

    def _checked(self, task: str, events: list[Event]) -> list[Event]:
        kept, findings = check_events(events, self.video.duration_s, task, self.options.limits)
        self.findings += findings
        return kept

    def _found(self, kind: str, task: str, event: Event) -> None:
        self.findings.append(Finding(kind, task, event.text, event.begin_s, event.end_s))

    def _standing(self, task: str, events: list[Event]) -> list[StreamRecord]:
        """One record: an instruction at the start, and all events as its answers."""
        answers = tuple(StreamAnswer(event.text, event.end_s, event.start_s) for event in events)
        return [self._record(task, self._instruction(task), answers)] if answers else []

    def _instruction(self, task: str) -> str:
        options = INSTRUCTIONS[task]
        key = f"{self.options.seed}/{task}/{self.video.name}".encode()
        return options[int.from_bytes(hashlib.sha256(key).digest()[:4], "big") % len(options)]

    def _record(self, task: str, ask: str, answers: tuple[StreamAnswer, ...], index: int = 0) -> StreamRecord:
        return StreamRecord(
            video=self.video.name,
            task=task,
            asks=(StreamAsk(ask),),
            answers=answers,
            duration_s=self.video.duration_s,
            id=f"{self.video.name}:{task}:{index}",
            source=f"annotated by {self.captioner.name}",
        )


_ANNOTATORS: dict[str, Callable[[Annotator], list[StreamRecord]]] = {
    "narration": Annotator.narration,
    "event_caption": Annotator.event_captions,
    "action_caption": Annotator.action_captions,
    "event_grounding": Annotator.groundings,
    "time_sensitive_qa": Annotator.questions,
}


def stable_changes(replies: list[str], stable: int) -> list[tuple[int, str]]:
    """Where a series of answers changes: (index of the first, its words).

    An answer counts once it was given ``stable`` times in a row, and dates from the first of these; shorter
    runs, and replies that tell nothing, leave the answer as it was.

    Args:
        replies: One per moment.
        stable: At least 1.
    """
    found: list[tuple[int, str]] = []
    start = 0
    for k in range(1, len(replies) + 1):
        words = prompts.same_words(replies[start])
        if k < len(replies) and prompts.same_words(replies[k]) == words:
            continue
        is_new = not found or prompts.same_words(found[-1][1]) != words
        if k - start >= stable and is_new and not prompts.says_nothing(replies[start]):
            found.append((start, replies[start]))
        start = k
    return found
