"""MiniRVOS streams as training samples, and the same through raw annotations and videos."""

from __future__ import annotations

import numpy as np
import pytest
from refstream_projects.streamo.clock import StreamClock
from refstream_projects.streamo.compiler import compile_record
from refstream_projects.streamo.dataset import StreamoDataset
from refstream_projects.streamo.minirvos import MiniStreamDialogues, write_raw_streams
from refstream_projects.streamo.records import TASKS, read_raw

from refstream.data.collate import collate_clips
from refstream.errors import UserError
from refstream.registry import DATASETS
from refstream.synthetic.streams import MiniStreams


def test_a_sample_has_one_frame_and_one_state_per_second():
    data = DATASETS.build(dict(type="MiniStreamDialogues", split="val", seed=1, length=6, size=64))
    streams = MiniStreams("val", 1, 6, size=64)
    for index in range(6):
        sample = data[index]
        assert sample.frames.shape == (20, 64, 64, 3)
        assert np.array_equal(sample.frames, streams.stream(index, range(0, 80, 4)).frames)
        assert sample.turn_images == (1,) * len(sample.dialogue) == (1,) * 20
        assert [q.split("\n")[-1] for q, _ in sample.dialogue] == [f"<{k}s-{k + 1}s>" for k in range(20)]
        assert all(a.split()[0] in ("<Silence>", "<Standby>", "<Response>") for _, a in sample.dialogue)
        record = next(r for r in streams.records(index) if r.id == sample.id)
        said = " ".join(a.removeprefix("<Response> ") for _, a in sample.dialogue if "<Response>" in a)
        assert said == " ".join(answer.text for answer in record.answers), "every answer is given, in order"
        assert sample.dialogue == data[index].dialogue
    batch = collate_clips([data[0], data[1]])
    assert [len(images) for images in batch.turn_images] == [20, 20]


@pytest.mark.parametrize(("fps", "turns", "step"), [(0.5, 10, 8), (2.0, 40, 2)])
def test_other_rates(fps, turns, step):
    data = MiniStreamDialogues("train", 2, length=2, fps=fps, size=32)
    assert data.frame_indices == list(range(0, 80, step))
    assert len(data[0].dialogue) == len(data[0].frames) == turns


def test_families_can_be_chosen_and_streams_without_them_are_passed_over():
    data = MiniStreamDialogues("train", 3, length=30, size=32, families=["colour"])
    assert {data[i].id.split("/")[1] for i in range(30)} == {"colour"}
    assert {s.split("/")[0] for s in (data[i].id for i in range(30))} < {
        data.source.name(i) for i in range(30)
    }


def test_another_draw_asks_something_else_of_the_same_stream():
    data = MiniStreamDialogues("train", 4, length=3, size=32)
    ids = {data.sample(1, np.random.default_rng(seed)).id for seed in range(20)}
    assert {name.split("/")[0] for name in ids} == {data.source.name(1)}
    assert len(ids) >= 5


def test_all_states_and_tasks_occur():
    data = MiniStreamDialogues("train", 4, length=60, size=32)
    samples = [data[i] for i in range(60)]
    states = [a.split()[0] for s in samples for _, a in s.dialogue]
    shares = {state: states.count(f"<{state}>") / len(states) for state in ("Silence", "Standby", "Response")}
    assert shares["Silence"] > 0.7, "most seconds are silent"
    assert shares["Response"] > 0.08
    assert shares["Standby"] > 0.03
    assert len({s.id.split("/")[1] for s in samples}) == 8


def test_no_answer_comes_before_its_frame_shows_it():
    """The dialogue of the first seconds is that of the whole stream: nothing is known ahead of time."""
    streams, clock = MiniStreams("val", 5, 10), StreamClock()
    for index in range(10):
        truth = streams.truth(index)
        record = streams.records(index)[0]
        whole = compile_record(record, clock)
        for turn in whole.turns:
            if turn.state == "response":
                over = [h for h in truth.happenings if truth.seconds(h.end) <= turn.start_s]
                assert truth.caption(over[-1]) in turn.answers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(fps=8.0), "fps <= stream_fps"),
        (dict(length=0), "length >= 1"),
        (dict(split="news"), "split must be"),
        (dict(families=["news"]), "families must be"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        MiniStreamDialogues(**options)


def test_raw_annotations_are_read_back_as_the_same_dialogues(tmp_path):
    streams = MiniStreams("val", 6, 2, size=48)
    report = write_raw_streams(tmp_path, streams)
    records = [record for index in range(2) for record in streams.records(index)]
    assert (report.num_videos, report.num_records) == (2, len(records))
    assert read_raw(report.annotations) == records
    assert {record.task for record in records} <= set(TASKS)
    data = StreamoDataset(report.annotations, report.videos)
    assert len(data) == len(records)
    for index, record in enumerate(records):
        sample = data.sample(index, np.random.default_rng(0))
        wanted = compile_record(record, StreamClock())
        assert [q for q, _ in sample.dialogue] == [turn.user_text() for turn in wanted.turns]
        assert [a for _, a in sample.dialogue] == [turn.assistant_text() for turn in wanted.turns]
        number = int(record.video.split("_")[-1].removesuffix(".mp4"))
        drawn = streams.stream(number, range(0, 80, 4)).frames.astype(int)
        assert np.abs(sample.frames.astype(int) - drawn).mean() < 10, "the frames of the same seconds"
    with pytest.raises(UserError, match="written already"):
        write_raw_streams(tmp_path, streams)
    with pytest.raises(ValueError, match="no stream"):
        write_raw_streams(tmp_path / "other", [])
