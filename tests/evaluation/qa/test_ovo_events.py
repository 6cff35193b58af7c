"""From events to answers: nothing after the query's time is read, and a log by the label laws is perfect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from refstream.errors import UserError
from refstream.evaluation.qa import QA_BENCHMARKS, score_answers
from refstream.evaluation.qa.ovo import OVOBench
from refstream.evaluation.qa.ovo_events import (
    answers_from_events,
    event_logs,
    query_id,
    read_event_log,
    stream_queries,
)
from refstream.streaming.writers import EventJsonlWriter
from refstream.structures import StreamEvent

STRICT = QA_BENCHMARKS["ovo"].scorer("strict")


def said(query: str, time_s: float, text: str | None, state: str | None = None) -> StreamEvent:
    extra = {} if state is None else {"state": state}
    return StreamEvent(query, int(time_s), float(time_s), text=text, extra=extra)


def perfect(benchmark: OVOBench) -> list[StreamEvent]:
    """By the laws of the file: a letter at once, a word per finished action, standby while a step goes on."""
    events = []
    for record in benchmark.records:
        name, task = str(record["id"]), record["task"]
        if task == "REC":
            events.append(said(name, 0, None))
            events += [said(name, time, "once more") for time in record["end_times"]]
        elif task == "SSR":
            spans = zip(record["all_steps"], record["start_time"], record["end_time"], strict=True)
            for step, start, end in spans:
                query = f"{name}/{step}"
                events += [said(query, 0, None, "silence"), said(query, start, None, "standby")]
                events.append(said(query, end + 0.5, f"{step} is done", "response"))
        elif task == "CRR":
            events += [
                said(name, record["ask_time"], None),
                said(name, record["clue_time"], record["answer"]),
            ]
        else:
            events.append(said(name, record["realtime"], "ABCDE"[record["gt"]]))
    return events


def scores(benchmark: OVOBench, events: list[StreamEvent], **rules: Any) -> Mapping[str, float]:
    answers = answers_from_events(benchmark, event_logs(events), **rules)
    summary = score_answers(benchmark, answers, STRICT, with_floors=False).summary
    return {group: figures["accuracy"] for group, figures in summary.items()}


def test_a_perfect_log_is_perfect(ovo):
    assert scores(ovo, perfect(ovo), state="state")["overall"] == 100


def test_a_perfect_log_of_the_public_file(real_ovo):
    """The laws hold for all but 6 of the 698 counts."""
    found = scores(real_ovo, perfect(real_ovo), state="state")
    assert found["mode/Backward"] == found["mode/Realtime"] == 100
    assert found["task/REC"] == pytest.approx(100 * 692 / 698)
    assert found["task/SSR"] == found["task/CRR"] == 100


def test_a_late_log_loses(ovo):
    late = [said(e.query_id, e.time_s + 1, e.text, e.extra.get("state")) for e in perfect(ovo)]
    found = scores(ovo, late, state="state")
    assert found["mode/Backward"] == found["mode/Realtime"] == 0, "nothing was said in time"
    assert found["task/REC"] == pytest.approx(100 * 2 / 3)
    assert found["task/CRR"] == pytest.approx(100 * 2 / 3)


def test_what_follows_the_query_changes_nothing(ovo):
    events = perfect(ovo)
    for question in ovo.questions:
        query = query_id(question)
        kept = [e for e in events if e.query_id != query or e.time_s <= question.end_s]
        more = [*kept, said(query, question.end_s + 0.01, "C 99 Yes No", "standby")]
        for rules in ({"state": "state"}, {"state": "spoken"}, {"count": "spoken"}):
            full, cut, other = (
                answers_from_events(ovo, event_logs(log), **rules).get(question.id)
                for log in (events, kept, more)
            )
            assert full == cut == other, (question.id, rules)


def test_the_lenient_rule_reads_on(ovo):
    log = event_logs([said("5", 3, "A"), said("5", 6, "B"), said("5", 7, "C")])
    assert answers_from_events(ovo, log)["5"] == "A"
    assert answers_from_events(ovo, log, choice="first_after")["5"] == "B"
    assert "5" not in answers_from_events(ovo, event_logs([said("5", 6, "B")]))


def test_counts_are_spoken_or_events(ovo):
    log = event_logs([said("7", 1.8, "that is 1"), said("7", 6, "that is 5"), said("7", 7, "no number")])
    answers = answers_from_events(ovo, log)
    assert [answers[f"7_{i}"] for i in range(3)] == ["0", "1", "3"]
    spoken = answers_from_events(ovo, log, count="spoken")
    assert [spoken.get(f"7_{i}") for i in range(3)] == [None, "1", "5"]


def test_a_query_that_was_not_run_has_no_answers(ovo):
    assert answers_from_events(ovo, event_logs([said("5", 1, "A")])) == {"5": "A"}


def test_what_to_ask(ovo):
    queries = {query.id: query for query in stream_queries(ovo)}
    assert set(queries) == {"5", "6", "7", "8/boil", "8/pour", "9"}
    asked = {name: (q.ask_s, q.end_s, q.points) for name, q in queries.items()}
    assert asked["5"] == (4.5, 4.5, ("5",))
    assert asked["7"] == (0.0, 9.0, ("7_0", "7_1", "7_2"))
    assert asked["8/pour"] == (0.0, 9.0, ("8_1", "8_2", "8_3"))
    assert asked["9"] == (3.0, 6.0, ("9_0", "9_1", "9_2"))
    assert queries["9"].text == "What falls?"


def test_a_log_on_disk_is_the_same(ovo, tmp_path):
    events = perfect(ovo)
    with EventJsonlWriter(tmp_path / "events.jsonl") as writer:
        writer.write(events)
    assert read_event_log(tmp_path / "events.jsonl") == event_logs(events)


def test_events_are_put_in_order(ovo):
    log = event_logs([said("5", 4, "later"), said("5", 1, "sooner")])
    assert log["5"].texts == ["sooner", "later"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not valid JSON"),
        ("[]", "line 2: expected an event"),
        (json.dumps({"query_id": "5", "text": "A"}), "line 2: expected 'time_s'"),
        (json.dumps({"time_s": 1, "text": "A"}), "line 2: expected 'query_id'"),
        (json.dumps({"query_id": "5", "time_s": 1, "text": 3}), "line 2: expected text"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, message):
    path = tmp_path / "events.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(UserError, match=message):
        read_event_log(path)


def test_wrong_requests(ovo):
    with pytest.raises(UserError, match="no event belongs"):
        answers_from_events(ovo, event_logs([said("other", 1, "A")]))
    with pytest.raises(UserError, match="choice must be one of last, first_after"):
        answers_from_events(ovo, {}, choice="best")
    with pytest.raises(UserError, match="log states"):
        answers_from_events(ovo, event_logs([said("8/boil", 1, "A")]), state="state")
    with pytest.raises(UserError, match="state is 'asleep'"):
        event_logs([said("8/boil", 1, "A", "asleep")])
