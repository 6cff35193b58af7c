"""Are the events of a video where they can be? What is not is mended or left out, and always told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from refstream.stream_records import StreamRecord

from ..states import holds_state_token
from .prompts import same_words, says_nothing


@dataclass(frozen=True)
class Event:
    """Something that is told of a stretch of a video, or of a moment.

    Attributes:
        text: The words.
        end_s: When it is over, in seconds.
        start_s: When it begins; None for a moment.
    """

    text: str
    end_s: float
    start_s: float | None = None

    @property
    def begin_s(self) -> float:
        """Where it begins, of a moment the moment itself."""
        return self.end_s if self.start_s is None else self.start_s


@dataclass(frozen=True)
class Finding:
    """Something that was mended, left out, or deserves a look.

    Attributes:
        kind: One word, e.g. "outside"; see ``KINDS``.
        task: In which task's events.
        text: Of the event, or the reply of a captioner.
        start_s, end_s: The times that came.
    """

    kind: str
    task: str
    text: str
    start_s: float
    end_s: float

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


KINDS = {
    "outside": "left out: it begins at or after the end of the video, or its times are in the wrong order",
    "clipped": "mended: it ended after the video, by no more than the slack; it now ends with it",
    "late": "left out: it ends after the video, by more than the slack",
    "short": "left out: it is shorter than the least length of an event",
    "merged": "mended: joined with an event of the same words that it overlaps, or that is next to it",
    "repeated": "left out: the same words as just before",
    "overlap": "kept: it overlaps the event before it, in other words",
    "empty": "left out: the captioner had nothing to say of it",
    "token": "left out: the words hold a state token",
    "ambiguous": "left out: the words fit other parts of the video as well",
    "unconfirmed": "left out: asked again, the captioner did not find it there",
    "malformed": "left out: the captioner's reply is none that was asked for",
    "known": "kept: it was over before it was asked about",
}
"""Every kind of finding, and what was done."""


@dataclass(frozen=True)
class Limits:
    """What an event must keep to.

    Attributes:
        min_s: Least length of an event that has one.
        slack_s: How far an event may end after the video; it is then clipped.
        merge_s: Events of the same words with a gap of at most this are one.

    Raises:
        ValueError: If one is negative.
    """

    min_s: float = 1.0
    slack_s: float = 1.0
    merge_s: float = 0.0

    def __post_init__(self) -> None:
        if min(self.min_s, self.slack_s, self.merge_s) < 0:
            raise ValueError(f"limits must be 0 s or more, got {self}")


def check_events(
    events: Iterable[Event], duration_s: float, task: str, limits: Limits
) -> tuple[list[Event], list[Finding]]:
    """Check the events that one task has found in one video.

    Args:
        events: In any order.
        duration_s: Of the video.
        task: For the findings.
        limits: What they must keep to.

    Returns:
        The events kept, in the order of their ends, then of their beginnings; and what was found.
    """
    findings: list[Finding] = []

    def found(kind: str, event: Event) -> None:
        findings.append(Finding(kind, task, event.text, event.begin_s, event.end_s))

    inside = []
    for event in events:
        if kind := reason_against(event, duration_s, limits):
            found(kind, event)
            continue
        if event.end_s > duration_s:
            found("clipped", event)
            event = clip(event, duration_s)
        inside.append(event)
    merged: list[Event] = []
    for event in sorted(inside, key=lambda event: (event.begin_s, event.end_s)):
        partner = _same_before(merged, event, limits.merge_s)
        if partner is None:
            if event.start_s is not None and any(_overlap(other, event) for other in merged):
                found("overlap", event)
            merged.append(event)
        else:
            found("merged", event)
            end_s = max(merged[partner].end_s, event.end_s)
            merged[partner] = replace(merged[partner], end_s=end_s)
    kept = []
    for event in merged:  # what is short alone may be long enough once joined
        if event.start_s is not None and event.end_s - event.start_s < limits.min_s:
            found("short", event)
        else:
            kept.append(event)
    return sorted(kept, key=lambda event: (event.end_s, event.begin_s)), findings


def reason_against(event: Event, duration_s: float, limits: Limits) -> str:
    """The kind of finding for which an event must be left out, "" if it need not."""
    if says_nothing(event.text):
        return "empty"
    if holds_state_token(event.text):
        return "token"
    if not 0 <= event.begin_s <= event.end_s or (event.start_s is not None and event.start_s >= duration_s):
        return "outside"
    return "late" if event.end_s > duration_s + limits.slack_s else ""


def clip(event: Event, duration_s: float) -> Event:
    """The event, over at the latest when the video is."""
    return replace(event, end_s=min(event.end_s, duration_s))


def known_before_asked(record: StreamRecord) -> list[Finding]:
    """A finding for every answer that was over before its question."""
    return [
        Finding("known", record.task, answer.text, answer.start_s or 0.0, answer.end_s)
        for answer in record.answers
        if answer.end_s < record.asks[answer.ask].time_s
    ]


def count_findings(findings: Iterable[Finding]) -> dict[str, int]:
    """How many there are of each kind, sorted by name."""
    return dict(sorted(Counter(finding.kind for finding in findings).items()))


def _same_before(kept: list[Event], event: Event, gap_s: float) -> int | None:
    """Which of the events kept says the same and is no further away; moments only meet moments."""
    for index, other in enumerate(kept):
        alike = same_words(other.text) == same_words(event.text)
        if (
            alike
            and (other.start_s is None) == (event.start_s is None)
            and event.begin_s - other.end_s <= gap_s
        ):
            return index
    return None


def _overlap(a: Event, b: Event) -> bool:
    return a.start_s is not None and a.begin_s < b.end_s and b.begin_s < a.end_s
