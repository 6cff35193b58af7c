"""The five tasks with a captioner that says what it is told to: questions, dates and what is left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from refstream_projects.streamo.annotation.changes import Span
from refstream_projects.streamo.annotation.prompts import Prompt
from refstream_projects.streamo.annotation.tasks import (
    INSTRUCTIONS,
    Annotator,
    TaskOptions,
    stable_changes,
)
from refstream_projects.streamo.annotation.watching import WatchedVideo
from refstream_projects.streamo.records import TASKS


class Scripted:
    """Replies by a function of kind, first and last time, and subject; remembers what it was shown."""

    name = "scripted"

    def __init__(self, reply: Callable[[str, float, float, str], str]) -> None:
        self.reply = reply
        self.shown: list[tuple[str, list[float]]] = []

    def caption(self, frames: np.ndarray, times: np.ndarray, prompt: Prompt) -> str:
        assert frames.shape == (len(times), 8, 8, 3)
        assert frames.dtype == np.uint8
        assert [int(frame[0, 0, 0]) for frame in frames] == [int(t) for t in times]  # frame k shows k
        self.shown.append((prompt.kind, times.tolist()))
        return self.reply(prompt.kind, float(times[0]), float(times[-1]), prompt.subject)


def video(
    seconds: int = 10, cuts: tuple[float, ...] = (3.0, 6.0), motions: tuple[Span, ...] = ()
) -> WatchedVideo:
    frames = np.zeros((seconds, 8, 8, 3), dtype=np.uint8)
    frames[:] = np.arange(seconds)[:, None, None, None]
    changes = [Span(t - 0.25, t, 0.5) for t in cuts]
    return WatchedVideo(
        "v.mp4", frames, np.arange(seconds) / 1.0, 1.0, float(seconds), changes, list(motions)
    )


def annotate(task: str, reply, watched: WatchedVideo | None = None, **options):
    captioner = Scripted(reply)
    annotator = Annotator(watched or video(), captioner, TaskOptions(**options))
    return annotator.records(task), [f.kind for f in annotator.findings], captioner.shown


def dated(records) -> list[tuple[str, float | None, float]]:
    return [(answer.text, answer.start_s, answer.end_s) for record in records for answer in record.answers]


def test_all_tasks_of_the_records_are_annotated():
    assert set(INSTRUCTIONS) == set(TASKS)
    for task in TASKS:
        assert annotate(task, lambda *_: "nothing")[0] == []


def test_narration_is_dated_by_the_frame_in_which_it_is_new():
    said = {2.0: "a dog comes", 5.0: "it sits", 6.0: "It sits.", 9.0: "it leaves"}
    records, findings, shown = annotate("narration", lambda _k, _a, last, _s: said.get(last, "Nothing."))
    assert dated(records) == [("a dog comes", None, 2), ("it sits", None, 5), ("it leaves", None, 9)]
    assert findings == ["repeated"]
    assert [times for _, times in shown[:4]] == [[0, 1], [0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4]]
    assert len(shown) == 9
    (record,) = records
    assert record.asks[0].time_s == 0
    assert record.asks[0].text in INSTRUCTIONS["narration"]


def test_no_frame_after_the_one_narrated_is_shown():
    _, _, shown = annotate("narration", lambda *_: "x")
    assert [times[-1] for _, times in shown] == list(range(1, 10))


def test_event_captions_are_back_to_back_and_seen_in_their_own_part():
    records, findings, shown = annotate("event_caption", lambda _k, first, _b, _s: f"part {first:g}")
    assert dated(records) == [("part 0", 0, 3), ("part 3", 3, 6), ("part 6", 6, 10)]
    assert [times for _, times in shown] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert findings == []


def test_parts_with_the_same_caption_are_one():
    records, findings, _ = annotate("event_caption", lambda _k, first, _b, _s: "rain" if first < 6 else "sun")
    assert dated(records) == [("rain", 0, 6), ("sun", 6, 10)]
    assert findings == ["merged"]


def test_action_captions_follow_the_motion():
    motions = (Span(1.0, 3.5, 0.1), Span(5.0, 5.5, 0.1), Span(7.0, 9.0, 0.1))
    reply = lambda _k, first, _b, _s: "nothing" if first == 7 else f"moves {first:g}"  # noqa: E731
    records, findings, _ = annotate("action_caption", reply, video(motions=motions))
    assert dated(records) == [("moves 1", 1, 3.5)]
    assert sorted(findings) == ["empty", "short"]


def grounded(verdict: Callable[[str, float], str], **options):
    def reply(kind: str, first: float, _last: float, subject: str) -> str:
        return f"part {first:g}" if kind == "event" else verdict(subject, first)

    return annotate("event_grounding", reply, **options)


def test_events_that_fit_one_part_are_asked_for_and_answered_by_their_span():
    records, findings, _ = grounded(lambda subject, first: "yes" if subject == f"part {first:g}" else "no")
    assert dated(records) == [("<0s-3s>", 0, 3), ("<3s-6s>", 3, 6), ("<6s-10s>", 6, 10)]
    assert all(f"part {t}" in record.asks[0].text for record, t in zip(records, (0, 3, 6), strict=True))
    assert len({record.id for record in records}) == 3
    assert findings == []
    one_part = annotate("event_grounding", lambda *_: "yes", video(cuts=()))
    assert one_part[0] == []
    assert len(grounded(lambda s, f: "yes" if s == f"part {f:g}" else "no", max_groundings=1)[0]) == 1


def test_events_that_fit_elsewhere_or_nowhere_are_left_out_and_told():
    everywhere = grounded(lambda *_: "yes")
    nowhere = grounded(lambda *_: "No.")
    unclear = grounded(lambda *_: "perhaps")
    for (records, findings, _), kind in zip(
        (everywhere, nowhere, unclear), ("ambiguous", "unconfirmed", "malformed"), strict=True
    ):
        assert records == []
        assert findings == [kind] * 3


def asked(question: str, answers: str, **options):
    def reply(kind: str, _first: float, last: float, subject: str) -> str:
        if kind == "question":
            return question
        assert subject == question
        return answers[int(last)]

    return annotate("time_sensitive_qa", reply, **options)


def test_answers_date_from_the_first_second_in_which_they_hold():
    records, findings, shown = asked("How many?", "1112233334")
    assert dated(records) == [("1", None, 0), ("2", None, 3), ("3", None, 5)]  # "4" was seen once only
    assert records[0].asks[0].text.startswith("How many? ")
    assert findings == []
    assert [len(times) for kind, times in shown if kind == "answer"] == [1] * 10
    assert dated(asked("How many?", "1112233334", stable=1)[0])[-1] == ("4", None, 9)


@pytest.mark.parametrize(
    ("question", "answers", "finding"),
    [("How many?", "1" * 10, "ambiguous"), ("I do not know.", "1" * 10, "malformed")],
)
def test_questions_that_do_not_depend_on_time_are_left_out_and_told(question, answers, finding):
    records, findings, _ = asked(question, answers)
    assert (records, findings) == ([], [finding])


def test_stable_changes():
    assert stable_changes(["a", "b", "a", "a", "A.", "c", "c", "none", "c", "c"], 2) == [(2, "a"), (5, "c")]
    assert stable_changes([], 2) == []
    assert stable_changes(["a", "a", "b", "a", "a"], 1) == [(0, "a"), (2, "b"), (3, "a")]


def test_words_are_drawn_by_seed_and_video():
    texts = {annotate("narration", lambda *_: "x", seed=seed)[0][0].asks[0].text for seed in range(20)}
    assert texts == set(INSTRUCTIONS["narration"])
    one, two = (annotate("narration", lambda *_: "x", seed=3)[0] for _ in range(2))
    assert one == two


def test_options_are_checked():
    with pytest.raises(ValueError, match="recent at least 2"):
        TaskOptions(recent=1)
