"""The written OVO-Bench is read by the real reader, obeys the label laws, and scores logs as they deserve."""

from __future__ import annotations

import json

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.evaluation.qa import QA_BENCHMARKS, score_answers
from refstream.evaluation.qa.ovo import OVOBench
from refstream.evaluation.qa.ovo_events import answers_from_events, event_logs
from refstream.structures import StreamEvent
from refstream.synthetic.stream_writers import write_ovo
from refstream.synthetic.streams import MiniStreams
from refstream.synthetic.streams_ovo import OVO_TASKS, UNABLE
from refstream.video import open_video

STRICT = QA_BENCHMARKS["ovo"].scorer("strict")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Twelve small streams, what was reported and the reader."""
    root = tmp_path_factory.mktemp("ovo")
    data = MiniStreams("val", seed=6, num_streams=12, size=48)
    report = write_ovo(root, data)
    return data, report, OVOBench(root)


def test_the_reader_reads_all_that_is_reported(written):
    data, report, benchmark = written
    assert set(report.records) == set(OVO_TASKS)
    assert report.videos == len(data) == 12
    assert sum(report.records.values()) == len(benchmark.records)
    assert sum(report.points.values()) == len(benchmark.questions)
    assert {question.kind for question in benchmark.questions} == {"choice", "count", "yes_no"}
    for question in benchmark.questions[:3]:
        with open_video(benchmark.video_path(question)) as video:
            frames = list(video)
        assert len(frames) == 80
        assert [f.time_s for f in frames[:3]] == pytest.approx([0, 0.25, 0.5])
        assert question.end_s <= frames[-1].time_s
        index = int(question.video.split("_")[-1].removesuffix(".mp4"))
        drawn = data.stream(index, [40]).frames[0].astype(int)
        assert np.abs(frames[40].image.astype(int) - drawn).mean() < 12, "but for compression"


def test_the_label_laws_hold(written):
    _, _, benchmark = written
    types = {"SSR": set(), "CRR": set()}
    for record in benchmark.records:
        points = record.get("test_info", [])
        if record["task"] == "REC":
            assert all(p["count"] == sum(e <= p["realtime"] for e in record["end_times"]) for p in points)
        elif record["task"] == "SSR":
            spans = {
                step: (start, end)
                for step, start, end in zip(
                    record["all_steps"], record["start_time"], record["end_time"], strict=True
                )
            }
            assert len(spans) == len(record["all_steps"]), "a step is told once"
            for p in points:
                start, end = spans[p["step"]]
                assert p["type"] == (start <= p["realtime"] <= end)
                types["SSR"].add(p["type"])
        elif record["task"] == "CRR":
            assert record["ask_time"] < record["clue_time"]
            for p in points:
                assert p["realtime"] >= record["ask_time"]
                assert p["type"] == (p["realtime"] >= record["clue_time"])
                types["CRR"].add(p["type"])
        else:
            assert record["options"][record["gt"]] == record["answer"]
            assert len(set(record["options"])) == len(record["options"]) >= 2
            assert (record["answer"] == UNABLE) == (record["task"] == "HLD")
    assert types == {"SSR": {0, 1}, "CRR": {0, 1}}


def test_choices_are_true(written):
    """The answers of the choices by the trajectories; a wrong option is false."""
    data, _, benchmark = written
    checked = dict.fromkeys(("ACR", "STU", "ASI"), 0)
    for record in benchmark.records:
        truth = data.truth(int(record["video"].split("_")[-1].removesuffix(".mp4")))
        if record["task"] not in checked:
            continue
        checked[record["task"]] += 1
        time_s, said = record["realtime"], record["answer"]
        now = [h for h in truth.happenings if h.start <= time_s * truth.fps < h.end]
        if record["task"] == "ACR":
            words = {"enter": "comes in", "leave": "leaves", "fade": "fades", "move": "moves"}
            fits = [o for o in record["options"] if any(words.get(h.kind, "?") in o for h in now)]
            assert said in fits
        elif record["task"] == "STU":
            side = record["question"].split(" now")[0].split()[-1]
            axis, sign = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}[side]
            frame = int(time_s * truth.fps + 1e-6)
            place = {
                truth.full_name(i, frame): sign * obj.centres[frame, axis]
                for i, obj in enumerate(truth.scene.objects)
                if (obj.centres[frame] > 0).all() and (obj.centres[frame] < 1).all()
            }
            assert min(place, key=place.get) == said
        else:
            told = [truth.caption(h) for h in truth.happenings]
            after = record["question"].removeprefix("what happened just before ").removesuffix("?")
            assert told[told.index(after) - 1] == said
            assert truth.happenings[told.index(after)].end / truth.fps <= time_s
    assert min(checked.values()) >= 4, checked


def said(query, time_s, text, state=None):
    return StreamEvent(query, 0, float(time_s), text=text, extra={} if state is None else {"state": state})


def log_of(benchmark, delay):
    """What a model says that knows everything and says it ``delay`` seconds late."""
    events = []
    for record in benchmark.records:
        name, task = str(record["id"]), record["task"]
        if task == "REC":
            events += [said(name, 0, None), *(said(name, t + delay, "once") for t in record["end_times"])]
        elif task == "SSR":
            spans = zip(record["all_steps"], record["start_time"], record["end_time"], strict=True)
            for step, start, end in spans:
                query = f"{name}/{step}"
                events += [said(query, 0, None, "silence"), said(query, start + delay, None, "standby")]
                events.append(said(query, end + delay + 1e-6, step, "response"))
        elif task == "CRR":
            events += [said(name, 0, None), said(name, record["clue_time"] + delay, record["answer"])]
        else:
            events.append(said(name, record["realtime"] + delay, "ABCDE"[record["gt"]]))
    return events


def accuracy(benchmark, delay):
    answers = answers_from_events(benchmark, event_logs(log_of(benchmark, delay)), state="state")
    summary = score_answers(benchmark, answers, STRICT, with_floors=False).summary
    return {group: figures["accuracy"] for group, figures in summary.items()}


def test_a_perfect_log_scores_100(written):
    _, _, benchmark = written
    assert set(accuracy(benchmark, 0.0).values()) == {100.0}


@pytest.mark.parametrize("delay", [0.5, 1.5, 4.0])
def test_a_late_log_loses_as_predicted(written, delay):
    """By the laws alone: a count is short of what ended in the delay, and so on."""
    _, _, benchmark = written
    marks = {"REC": [], "SSR": [], "CRR": []}
    for record in benchmark.records:
        for point in record.get("test_info", []):
            t = point["realtime"]
            if record["task"] == "REC":
                late = sum(t - delay < end <= t for end in record["end_times"])
                marks["REC"].append(late == 0)
            elif record["task"] == "CRR":
                marks["CRR"].append(not record["clue_time"] <= t < record["clue_time"] + delay)
            else:
                i = record["all_steps"].index(point["step"])
                start, end = record["start_time"][i], record["end_time"][i]
                marks["SSR"].append((start <= t <= end) == (start + delay <= t <= end + delay))
    found = accuracy(benchmark, delay)
    for task, correct in marks.items():
        assert found[f"task/{task}"] == pytest.approx(100 * np.mean(correct)), task
    assert found["mode/Backward"] == found["mode/Realtime"] == 0, "a choice is due at its time"
    assert found["overall"] < 40


def test_what_is_asked_depends_on_stream_and_seed_alone(tmp_path):
    data = MiniStreams("val", seed=6, num_streams=12, size=48)
    for name, streams, seed in (("a", [data[3]], 0), ("b", [data[1], data[3]], 0), ("c", [data[3]], 1)):
        write_ovo(tmp_path / name, streams, tasks=["EPM", "REC"], seed=seed)
    rows = {}
    for name in "abc":
        every = json.loads((tmp_path / name / "ovo_bench_new.json").read_text())
        rows[name] = [{**row, "id": 0} for row in every if row["video"] == f"{data.name(3)}.mp4"]
    assert rows["a"] == rows["b"] != rows["c"]


def test_bad_requests_are_refused(tmp_path):
    data = MiniStreams("val", seed=6, num_streams=1, size=48)
    with pytest.raises(UserError, match="got OCR"):
        write_ovo(tmp_path, data, tasks=["OCR"])
    with pytest.raises(ValueError, match="all 80 frames"):
        write_ovo(tmp_path, [data.stream(0, [1, 2])])
    with pytest.raises(UserError, match="none of"):
        write_ovo(tmp_path, [], tasks=["REC"])
    write_ovo(tmp_path, data)
    with pytest.raises(UserError, match="written already"):
        write_ovo(tmp_path, data)
