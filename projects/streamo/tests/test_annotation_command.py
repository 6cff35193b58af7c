"""The command from videos to raw annotations: all tasks, resuming, broken videos and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from refstream_projects.streamo.annotation import annotate_videos, find_videos
from refstream_projects.streamo.annotation.__main__ import main
from refstream_projects.streamo.annotation.annotate import AnnotateOptions
from refstream_projects.streamo.annotation.prompts import Prompt
from refstream_projects.streamo.annotation.rule_captioner import RuleCaptioner
from refstream_projects.streamo.clock import StreamClock
from refstream_projects.streamo.compiler import compile_record
from refstream_projects.streamo.records import TASKS, read_raw

from refstream.errors import UserError
from refstream.files import write_png
from refstream.synthetic.streams import MiniStreams
from refstream.video import write_video

STREAMS = MiniStreams("val", 0, 4, duration_s=10)


class Counting(RuleCaptioner):
    """Counts the requests; stops the run after a number of them."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.stop_after, self.count = stop_after, 0

    def caption(self, frames: np.ndarray, times: np.ndarray, prompt: Prompt) -> str:
        self.count += 1
        if self.stop_after is not None and self.count > self.stop_after:
            raise KeyboardInterrupt
        return super().caption(frames, times, prompt)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two streams as videos, one as frames."""
    root = tmp_path_factory.mktemp("videos")
    for index, name in enumerate(("a.mp4", "deep/b.mp4")):
        write_video(root / name, STREAMS.stream(index).frames, fps=4)
    for t, frame in enumerate(STREAMS.stream(2).frames):
        write_png(root / "deep" / "c" / f"{t}.png", frame, durable=False)
    return root


def test_a_folder_becomes_records_that_compile(folder, tmp_path, capsys):
    out = tmp_path / "raw.json"
    questions = [{"question": "Who?", "answer": "x", "start": 1, "end": 3, "video": "deep/b.mp4"}]
    (tmp_path / "qa.json").write_text(json.dumps(questions), encoding="utf-8")
    words = [str(folder), "--out", str(out), "--captioner", "rules", "--qa", str(tmp_path / "qa.json")]
    assert main([*words, "--frames-fps", "4"]) == 0
    assert "from 3 of 3 videos" in capsys.readouterr().out
    records = read_raw(out)
    assert {record.video for record in records} == {"a.mp4", "deep/b.mp4", "deep/c"}
    assert {record.task for record in records} == set(TASKS)
    assert len({record.id for record in records}) == len(records)
    for record in records:
        assert record.duration_s == pytest.approx(10, abs=0.01)
        dialogue = compile_record(record, StreamClock())
        said = [text for turn in dialogue.turns for text in turn.answers]
        assert sorted(said) == sorted(answer.text for answer in record.answers)
    report = json.loads((tmp_path / "raw.report.json").read_text(encoding="utf-8"))
    assert report["videos"] == report["annotated"] == 3
    assert sum(report["records"].values()) == len(records)
    assert sum(entry["count"] for entry in report["findings"].values()) == sum(
        len(video["findings"]) for video in report["per_video"]
    )


def test_the_narration_of_a_video_is_that_of_its_truth(folder, tmp_path):
    out = tmp_path / "raw.json"
    assert (
        main([str(folder / "a.mp4"), "--out", str(out), "--captioner", "rules", "--tasks", "narration"]) == 0
    )
    (record,) = read_raw(out)
    said = [(part, answer.end_s) for answer in record.answers for part in answer.text.split(" and ")]
    truth = STREAMS.truth(0)
    sudden = [h for h in truth.happenings if h.kind in {"enter", "leave", "recolour", "touch"}]
    assert sudden
    for happening in sudden:
        text = truth.caption(happening)
        assert any(part == text and abs(end_s - happening.end / 4) <= 1 for part, end_s in said), text


def test_a_run_that_was_cut_off_goes_on(folder, tmp_path):
    videos, out = find_videos(folder), tmp_path / "raw.json"
    options = AnnotateOptions(tasks=("narration",), folder_fps=4)
    first = Counting(stop_after=13)  # 9 for each video: in the middle of the second
    with pytest.raises(KeyboardInterrupt):
        annotate_videos(videos, out, first, options)
    assert not out.exists()
    second = Counting()
    report = annotate_videos(videos, out, second, options)
    assert (first.count - 1, second.count) == (13, 18)
    content = out.read_bytes()
    again = Counting()
    assert annotate_videos(videos, out, again, options) == report
    assert (again.count, out.read_bytes()) == (0, content)
    whole = tmp_path / "whole.json"
    annotate_videos(videos, whole, Counting(), options)
    assert whole.read_bytes() == content


def test_other_options_videos_or_damage_are_annotated_anew(tmp_path, caplog):
    write_video(tmp_path / "v.mp4", STREAMS.stream(0).frames[:12], fps=4)
    out = tmp_path / "raw.json"

    def requests(**options: object) -> int:
        captioner = Counting()
        annotate_videos(
            find_videos(tmp_path), out, captioner, AnnotateOptions(tasks=("event_caption",), **options)
        )
        return captioner.count

    assert requests() > 0
    assert requests() == 0
    assert requests(fps=2.0) > 0
    write_video(tmp_path / "v.mp4", STREAMS.stream(1).frames[:12], fps=4)
    assert requests(fps=2.0) > 0
    (part,) = (tmp_path / "raw.json.parts").iterdir()
    part.write_text("{", encoding="utf-8")
    assert requests(fps=2.0) > 0
    assert "cannot be used" in caplog.text


def test_a_broken_video_is_named_and_the_others_go_on(tmp_path, caplog):
    write_video(tmp_path / "good.mp4", STREAMS.stream(0).frames, fps=4)
    data = (tmp_path / "good.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    out = tmp_path / "raw.json"
    report = annotate_videos(
        find_videos(tmp_path), out, RuleCaptioner(), AnnotateOptions(tasks=("narration",))
    )
    assert (report["videos"], report["annotated"]) == (3, 1)
    reason = report["left_out"]["video that cannot be read"]
    assert reason["count"] == 2
    assert ["cut.mp4" in name or "empty.mp4" in name for name in reason["first"]] == [True, True]
    assert "cut.mp4" in caplog.text
    (tmp_path / "good.mp4").unlink()
    with pytest.raises(UserError, match="no video can be used: 2 x video that cannot be read"):
        annotate_videos(find_videos(tmp_path), tmp_path / "none.json", RuleCaptioner())
    assert not (tmp_path / "none.json").exists()


def test_questions_alone_need_no_captioner(tmp_path, caplog):
    write_video(tmp_path / "v.mp4", STREAMS.stream(0).frames, fps=4)
    rows = [
        {"question": "Who?", "answer": "x", "end": 3},
        {"question": "Who?", "answer": "late", "end": 30},
        {"question": "Who?", "answer": "x", "end": 3, "video": "w.mp4"},
    ]
    (tmp_path / "qa.json").write_text(json.dumps(rows), encoding="utf-8")
    out = tmp_path / "raw.json"
    assert main([str(tmp_path / "v.mp4"), "--out", str(out), "--qa", str(tmp_path / "qa.json")]) == 0
    assert [(r.asks[0].text, r.answers[0].end_s) for r in read_raw(out)] == [("Who?", 3.0)]
    report = json.loads((tmp_path / "raw.report.json").read_text(encoding="utf-8"))
    assert report["captioner"] is None
    assert report["findings"]["late"]["count"] == 1
    assert report["left_out"]["question about another video"]["count"] == 1
    assert "row 2" in caplog.text


def test_which_videos_are_found(tmp_path):
    for name in ("b.MKV", "a/x.mp4", "a/notes.txt", ".hidden/y.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    write_png(tmp_path / "z" / "0.png", np.zeros((8, 8, 3), np.uint8))
    assert list(find_videos(tmp_path)) == ["a/x.mp4", "b.MKV", "z"]
    assert list(find_videos(tmp_path / "z")) == ["z"]
    assert list(find_videos(tmp_path / "b.MKV")) == ["b.MKV"]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="no video in"):
        find_videos(tmp_path / "nothing")
    with pytest.raises(UserError, match="no video or folder at"):
        find_videos(tmp_path / "gone.mp4")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to annotate with"),
        (["--captioner", "nobody"], "no captioner 'nobody'"),
        (["--captioner", "rules", "--fps", "0"], "--fps must lie in"),
        (["--qa", "none.json"], "no file of questions at none.json"),
        (["--captioner", "rules", "--min-event", "-1"], "limits must be 0 s or more"),
        (["--captioner", "rules", "--max-side", "0"], "max_side must be at least 1 pixel"),
    ],
)
def test_bad_arguments_are_told_in_a_line(tmp_path, capsys, words, message):
    write_video(tmp_path / "v.mp4", STREAMS.stream(0, [0, 1]).frames, fps=4)
    assert main([str(tmp_path / "v.mp4"), "--out", str(tmp_path / "o.json"), *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "o.json").exists()


def test_unknown_tasks_are_refused():
    for tasks in ((), ("narration", "poetry")):
        with pytest.raises(UserError, match="tasks must be some of"):
            AnnotateOptions(tasks=tasks)
