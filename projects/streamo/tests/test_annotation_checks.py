"""Where events may be: each rule on events whose outcome is plain."""

from __future__ import annotations

import pytest
from refstream_projects.streamo.annotation import prompts
from refstream_projects.streamo.annotation.checks import (
    KINDS,
    Event,
    Limits,
    check_events,
    count_findings,
    known_before_asked,
)

from refstream.stream_records import StreamAnswer, StreamAsk, StreamRecord


def check(*events: Event, duration_s: float = 10.0, **limits: float):
    kept, findings = check_events(events, duration_s, "event_caption", Limits(**limits))
    assert {finding.kind for finding in findings} <= set(KINDS)
    return kept, [(finding.kind, finding.text) for finding in findings]


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (Event("a", 4, 2), None),
        (Event("a", 10, 9), None),  # ends with the video
        (Event("a", 10.5, 8), "clipped"),
        (Event("a", 11.5, 8), "late"),
        (Event("a", 12, 10), "outside"),  # begins where the video ends
        (Event("a", 2, 4), "outside"),  # the wrong way round
        (Event("a", 2, -1), "outside"),
        (Event("a", -1), "outside"),
        (Event("a", 3.9, 3), "short"),
        (Event("a", 3), None),  # a moment has no length
        (Event("a", 10.5), "clipped"),
        (Event("a", 11.5), "late"),
        (Event("  Nothing. ", 3), "empty"),
        (Event("", 3), "empty"),
        (Event("a </Response> b", 3), "token"),
        (Event("a <standby>", 3), "token"),
        (Event("the response is here", 3), None),
    ],
)
def test_one_event(event, kind):
    kept, findings = check(event)
    assert findings == ([] if kind is None else [(kind, event.text)])
    assert len(kept) == (kind in {None, "clipped"})
    assert all(e.end_s <= 10 for e in kept)


def test_the_same_words_are_merged_and_others_flagged():
    kept, findings = check(Event("A man runs.", 5, 2), Event("a man  runs", 8, 4), Event("a dog barks", 7, 6))
    assert kept == [Event("a dog barks", 7, 6), Event("A man runs.", 8, 2)]
    assert findings == [("merged", "a man  runs"), ("overlap", "a dog barks")]


def test_a_gap_is_bridged_only_if_asked_for():
    events = Event("a", 3, 1), Event("a", 5.5, 3.5)
    assert check(*events) == (list(events), [])
    assert check(*events, merge_s=0.5) == ([Event("a", 5.5, 1)], [("merged", "a")])
    touching = check(Event("a", 3, 1), Event("a", 5, 3))
    assert touching == ([Event("a", 5, 1)], [("merged", "a")])


def test_short_pieces_that_are_merged_are_not_short():
    assert check(Event("a", 3.5, 3), Event("a", 4, 3.5)) == ([Event("a", 4, 3)], [("merged", "a")])


def test_back_to_back_events_and_equal_moments_survive():
    events = [Event("a", 5, 0), Event("b", 10, 5), Event("c", 7), Event("d", 7)]
    kept, findings = check(*events)
    assert sorted(e.text for e in kept) == ["a", "b", "c", "d"]
    assert [e.end_s for e in kept] == [5, 7, 7, 10]
    assert findings == []


def test_an_answer_before_its_question_is_told():
    record = StreamRecord(
        "v", "narration", (StreamAsk("?", 5.0),), (StreamAnswer("x", 3), StreamAnswer("y", 6))
    )
    assert [(f.kind, f.text, f.end_s) for f in known_before_asked(record)] == [("known", "x", 3)]
    assert count_findings(known_before_asked(record) * 2) == {"known": 2}


def test_limits_are_checked():
    with pytest.raises(ValueError, match="0 s or more"):
        Limits(min_s=-1)


def test_replies_are_read():
    assert prompts.tidy('  "A man\n runs." ') == "A man runs."
    assert prompts.tidy('"') == '"'
    assert [prompts.yes_or_no(t) for t in ("Yes.", " no, it", "**Yes**", "yesterday", "maybe", "")] == [
        *(True, False, True),
        *(None, None, None),
    ]
    assert prompts.says_nothing(" None. ")
    assert not prompts.says_nothing("nothing but rain")
    assert [prompts.is_question(t) for t in ("Where is he?", "how many are there now", "I know")] == [
        *(True, True, False)
    ]
