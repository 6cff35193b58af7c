"""The command that compiles raw annotations, ours and as the release."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from refstream_projects.streamo.clock import StreamClock
from refstream_projects.streamo.compile import main
from refstream_projects.streamo.compiler import compile_record
from refstream_projects.streamo.records import parse_record
from refstream_projects.streamo.stream_json import read_instruct
from refstream_projects.streamo.tests.test_release import CASES, ROOT

from refstream.video import write_video

EXAMPLE = ROOT.parent / "shared" / "data" / "streaming_text" / "streamo" / "dataset" / "example"
NAMES = ("plain_interval", "contiguous_events", "question_later", "two_in_one_second", "no_question")


@pytest.fixture
def files(tmp_path):
    """Golden raw records with their length, in a file."""
    rows = [{**CASES[name]["raw"], "duration": CASES[name]["frame_count"]} for name in NAMES]
    (tmp_path / "raw.json").write_text(json.dumps(rows))
    return str(tmp_path / "raw.json"), str(tmp_path / "out.json")


def pairs(row):
    texts = [message["content"] for message in row["messages"] if message["role"] != "system"]
    return [list(pair) for pair in zip(texts[::2], texts[1::2], strict=True)]


def test_release_compatible_output_is_the_public_converters(files):
    raw, out = files
    assert main([raw, out, "--release-compatible"]) == 0
    rows = json.loads(Path(out).read_text())
    assert [pairs(row) for row in rows] == [CASES[name]["turns"] for name in NAMES]
    assert rows[0]["videos"] == ["plain_interval.mp4"]
    assert list(rows[0]) == ["messages", "videos", "video_name", "task_type", "source"]
    assert "</Standby>" in rows[0]["messages"][0]["content"]


@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="needs ../shared/data")
def test_the_published_raw_example_becomes_the_published_dialogues(tmp_path):
    rows = json.loads((EXAMPLE / "raw_data.json").read_text())
    published = json.loads((EXAMPLE / "stream_format.json").read_text())
    for row, made in zip(rows, published, strict=True):
        row["duration"] = len(pairs(made))
    (tmp_path / "raw.json").write_text(json.dumps(rows))
    assert main([str(tmp_path / "raw.json"), str(tmp_path / "out.json"), "--release-compatible"]) == 0
    for made, expected in zip(json.loads((tmp_path / "out.json").read_text()), published, strict=True):
        assert pairs(made) == pairs(expected)
        assert {**made, "messages": None} == {**expected, "messages": None}


def test_our_output_is_the_compiled_dialogue(files, capsys):
    raw, out = files
    assert main([raw, out, "--allow-unknown-tasks", "--default-question", "What happens?"]) == 0
    dialogues = read_instruct(out)
    for name, made in zip(NAMES, dialogues, strict=True):
        record = parse_record(CASES[name]["raw"], name, default_question="What happens?")
        expected = compile_record(record, StreamClock(), CASES[name]["frame_count"])
        assert [t.assistant_text() for t in made.turns] == [t.assistant_text() for t in expected.turns]
        assert [t.user_text() for t in made.turns] == [t.user_text() for t in expected.turns]
    turns = sum(CASES[name]["frame_count"] for name in NAMES)
    assert f"5 dialogues, {turns} turns (silence " in capsys.readouterr().out


def test_bad_records_stop_it_or_are_listed(files, capsys):
    raw, out = files
    assert main([raw, out]) == 2
    assert "record 4 (no_question): asks nothing" in capsys.readouterr().err
    assert main([raw, out, "--skip-bad"]) == 0
    said = capsys.readouterr().out
    assert "4 dialogues" in said
    assert "left out: 1 x record that cannot be used" in said
    assert "(no_question): asks nothing" in said


def test_pieces_rates_and_system_message(files, tmp_path):
    raw, out = files
    (tmp_path / "system.txt").write_text("Watch.")
    words = ["--fps", "2", "--max-turns", "8", "--overlap", "2", "--system", str(tmp_path / "system.txt")]
    assert main([raw, out, "--skip-bad", *words]) == 0
    made = read_instruct(out)
    assert {d.clock.fps for d in made} == {2}
    assert {d.system for d in made} == {"Watch."}
    assert max(len(d.turns) for d in made) == 8
    # 22, 30, 26 and 16 turns, pieces of 8 every 6
    assert len(made) == 4 + 5 + 4 + 3


def test_lengths_come_from_the_videos(tmp_path, capsys):
    """29.97 frames per second: 3 s are 3 turns; the release steps by 29 frames and finds 4 in 117."""
    videos = tmp_path / "videos"
    write_video(videos / "a.mp4", np.zeros((117, 16, 16, 3), np.uint8), 30000 / 1001)
    row = {**CASES["plain_instant"]["raw"], "video_path": "a.mp4", "response": []}
    (tmp_path / "raw.json").write_text(json.dumps([row]))
    paths = [str(tmp_path / "raw.json"), str(tmp_path / "out.json")]
    assert main([*paths]) == 2
    assert "Give --videos" in capsys.readouterr().err
    assert main([*paths, "--videos", str(videos)]) == 0
    assert len(read_instruct(paths[1])[0].turns) == 4
    write_video(videos / "a.mp4", np.zeros((119, 16, 16, 3), np.uint8), 30000 / 1001)
    assert main([*paths, "--videos", str(videos), "--release-compatible"]) == 0
    assert len(pairs(json.loads((tmp_path / "out.json").read_text())[0])) == 119 // 29
    (videos / "a.mp4").unlink()
    assert main([*paths, "--videos", str(videos)]) == 2
    assert "a.mp4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.json", "out.json"], "no file of raw annotations at none.json"),
        (["RAW", "OUT", "--videos", "nowhere"], "no dataset folder at nowhere"),
        (["RAW", "OUT", "--fps", "0"], "fps"),
        (["RAW", "OUT", "--max-turns", "2", "--overlap", "2"], "max_turns"),
        (["RAW", "OUT", "--system", "none.txt"], "none.txt"),
    ],
)
def test_what_the_user_can_mend_is_one_line(files, words, message, capsys):
    words = [{"RAW": files[0], "OUT": files[1]}.get(word, word) for word in words]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
