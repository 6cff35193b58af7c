"""Dialogues over real video files: which frame each turn shows, pieces, and what is left out."""

from __future__ import annotations

import json
import logging

import cv2
import numpy as np
import pytest
from refstream_projects.streamo.clock import StreamClock
from refstream_projects.streamo.dataset import StreamoDataset, end_with_video, to_sample
from refstream_projects.streamo.stream_json import parse_instruct
from refstream_projects.streamo.turn_frames import measure_video, read_turn_frames

from refstream.data.collate import collate_clips
from refstream.errors import UserError, VideoError
from refstream.registry import DATASETS
from refstream.video import write_video

SIZE = 32


def picture(index):
    """A frame that tells its number by its grey value (exactly enough through H.264)."""
    return np.full((SIZE, 2 * SIZE, 3), 2 * index, dtype=np.uint8)


def number(frame):
    return float(frame.mean()) / 2


def raw(video="v.mp4", end=6, **changes):
    made = {
        "video_path": video,
        "task_type": "QA",
        "question": [{"content": "q?", "time": 2}],
        "response": [{"content": "a.", "st_time": 4, "end_time": end}],
    }
    return {**made, **changes}


def instruct(replies, video="v.mp4"):
    messages = [
        {"role": role, "content": text}
        for k, reply in enumerate(replies)
        for role, text in (
            ("user", ("q\n" if k == 0 else "") + f"<{k}s-{k + 1}s>\n<stream>"),
            ("assistant", reply),
        )
    ]
    return {"messages": messages, "videos": [video], "task_type": "narration"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """v.mp4: 100 frames at 10 per second; n.mp4: 120 at 29.97; frames: a folder; torn: one is damaged."""
    root = tmp_path_factory.mktemp("videos")
    write_video(root / "v.mp4", (picture(k) for k in range(100)), 10, crf=0)
    write_video(root / "n.mp4", (picture(k) for k in range(120)), 30000 / 1001, crf=0)
    (root / "frames").mkdir()
    for k in range(12):
        cv2.imwrite(str(root / "frames" / f"{k}.png"), picture(k))
    (root / "bad.mp4").write_text("no video")
    (root / "torn").mkdir()
    for k in range(12):
        cv2.imwrite(str(root / "torn" / f"{k}.png"), picture(k))
    (root / "torn" / "8.png").write_bytes((root / "torn" / "8.png").read_bytes()[:60])
    return root


def build(tmp_path, videos, rows, **options):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    return StreamoDataset(path, videos, **options)


def sample(dataset, index=0):
    return dataset.sample(index, np.random.default_rng(0))


@pytest.mark.parametrize(("fps", "step"), [(1, 10), (2, 5), (0.5, 20)])
def test_a_turn_shows_the_first_frame_of_its_interval(tmp_path, videos, fps, step):
    dataset = build(tmp_path, videos, [raw()], fps=fps)
    made = sample(dataset)
    count = 100 // step
    assert made.frames.shape == (count, SIZE, 2 * SIZE, 3)
    assert made.frames.dtype == np.uint8
    assert [number(f) for f in made.frames] == pytest.approx([k * step for k in range(count)], abs=1)
    assert len(made.dialogue) == count
    assert made.turn_images == (1,) * count
    assert made.masks.shape == (0, count, SIZE, 2 * SIZE)
    told = int(6 * fps)
    assert [k for k, (_, reply) in enumerate(made.dialogue) if reply == "<Response> a."] == [told]
    assert made.dialogue[int(2 * fps)][0] == f"q?\n{StreamClock(fps).label(int(2 * fps))}"
    assert collate_clips([made]).turn_images == [made.turn_images]


def test_fractional_rates_do_not_drift(tmp_path, videos):
    """120 frames at 29.97 last 4.004 s: the fifth second has no frame, so it has no turn."""
    made = sample(
        build(tmp_path, videos, [raw("n.mp4", question=[{"content": "q", "time": 0}], response=[])])
    )
    assert [number(f) for f in made.frames] == pytest.approx([0, 30, 60, 90], abs=1)


def test_a_folder_of_frames_is_a_video(tmp_path, videos):
    row = raw("frames", question=[{"content": "q", "time": 0}], response=[{"content": "a", "time": 3}])
    made = sample(build(tmp_path, videos, [row], frames_fps=2, max_side=None))
    assert [number(f) for f in made.frames] == [0, 2, 4, 6, 8, 10]
    assert made.dialogue[3][1] == "<Response> a"


def test_frames_are_shrunk(tmp_path, videos):
    assert sample(build(tmp_path, videos, [raw()], max_side=16)).frames.shape[1:] == (8, 16, 3)


def test_both_forms_and_pieces(tmp_path, videos):
    rows = [raw(id="first"), instruct(["<Silence>"] * 9 + ["</Response> b."])]
    dataset = build(tmp_path, videos, rows, max_turns=4, overlap=1)
    assert len(dataset) == 6
    assert dataset.dialogue(1).id == "first 3s-7s"
    piece = sample(dataset, 1)
    assert [number(f) for f in piece.frames] == pytest.approx([30, 40, 50, 60], abs=1)
    assert piece.dialogue == (
        ("q?\n<3s-4s>", "<Silence>"),
        ("<4s-5s>", "<Standby>"),
        ("<5s-6s>", "<Standby>"),
        ("<6s-7s>", "<Response> a."),
    )
    assert sample(dataset, 5).dialogue[-1] == ("<9s-10s>", "<Response> b.")
    report = dataset.report()
    assert (report["samples"], report["dialogues"], report["turns"]) == (6, 2, 20)
    assert (report["silence"], report["standby"], report["response"]) == (16, 2, 2)
    assert report["left_out"] == {}


def test_a_finished_dialogue_ends_with_its_video(tmp_path, videos):
    """The release writes too many turns; what is said right after the end is kept, later is refused."""
    silent = ["<Silence>"]
    rows = [instruct(silent * 13), instruct([*silent * 10, "</Response> b.", *silent])]
    dataset = build(tmp_path, videos, [*rows, instruct([*silent * 11, "</Response> b."])])
    assert [len(dataset.dialogue(k).turns) for k in range(2)] == [10, 10]
    assert dataset.dialogue(1).turns[-1].answers == ("b.",)
    report = dataset.report()
    assert report["turns after the end of the video"] == 5
    assert (
        "turn <11s-12s> comes after its end" in report["left_out"]["record that cannot be used"]["first"][0]
    )
    with pytest.raises(UserError, match="right video"):
        end_with_video(parse_instruct(rows[0], "r"), 0, "r")


def test_what_cannot_be_used_is_named(tmp_path, videos, caplog):
    rows = [
        raw(),
        raw("none.mp4"),
        raw("bad.mp4"),
        raw("../v.mp4"),
        raw(end="soon"),
        raw(end=30),
        raw(task_type="cooking"),
        raw(question=[{"content": "q", "time": 11}]),
    ]
    with caplog.at_level(logging.WARNING):
        dataset = build(tmp_path, videos, rows)
    assert len(dataset) == 1
    left_out = dataset.report()["left_out"]
    assert {reason: found["count"] for reason, found in left_out.items()} == {
        "video missing": 1,
        "video that cannot be read": 1,
        "record that cannot be used": 5,
    }
    assert left_out["video missing"]["first"] == ["none.mp4"]
    named = "\n".join(left_out["record that cannot be used"]["first"])
    for part in ("record 3", "'soon' is not a time", "ends at 30 s", "'cooking' is unknown", "asked at 11 s"):
        assert part in named
    assert "leaves out" in caplog.text
    with pytest.raises(UserError, match="no video can be used"):
        build(tmp_path, videos, rows[1:])


def test_a_damaged_video_is_found_at_the_start_if_all_are_decoded(tmp_path, videos):
    row = raw("torn", end=5)
    with pytest.raises(VideoError, match=r"8\.png"):
        sample(build(tmp_path, videos, [row], frames_fps=2))
    dataset = build(tmp_path, videos, [raw(), row], check="decode", frames_fps=2)
    assert len(dataset) == 1
    assert dataset.report()["left_out"]["video that cannot be read"]["count"] == 1


def test_tasks_can_be_chosen(tmp_path, videos):
    rows = [raw(), instruct(["<Silence>"] * 3)]
    assert len(build(tmp_path, videos, rows, tasks=["narration"])) == 1
    assert build(tmp_path, videos, rows, tasks=["QA"]).dialogue(0).task == "time_sensitive_qa"


def test_options(tmp_path, videos):
    for options in (dict(max_turns=0), dict(max_turns=3, overlap=3), dict(check="all")):
        with pytest.raises(UserError, match=r"expected max_turns|check must be"):
            build(tmp_path, videos, [raw()], **options)
    with pytest.raises(UserError, match="no dataset folder"):
        build(tmp_path, tmp_path / "none", [raw()])
    assert DATASETS.get("StreamoDataset") is StreamoDataset


def test_a_sample_needs_a_frame_per_turn():
    made = parse_instruct(instruct(["<Silence>"] * 3), "r")
    with pytest.raises(ValueError, match="3 turns need as many frames, got 2"):
        to_sample(made, np.zeros((2, 4, 4, 3), np.uint8))


def test_lengths(videos):
    assert measure_video(videos / "v.mp4").num_turns(StreamClock()) == 10
    assert measure_video(videos / "v.mp4", check="decode").duration_s == pytest.approx(10, abs=1e-3)
    header, decoded = (measure_video(videos / "n.mp4", check=check) for check in ("header", "decode"))
    assert header.num_frames == decoded.num_frames == 120
    assert header.duration_s == pytest.approx(decoded.duration_s, abs=2e-3)
    assert StreamClock().intervals(header.for_turns(StreamClock())) == header.num_turns(StreamClock()) == 4
    assert StreamClock().intervals(header.duration_s) == 5


@pytest.mark.parametrize("name", ["v.mp4", "frames"])
def test_one_missing_frame_is_mended_and_two_are_an_error(videos, name):
    end = {"v.mp4": 10, "frames": 6}[name]
    frames = read_turn_frames(videos / name, [end - 1, end], frames_fps=2)
    assert number(frames[1]) == pytest.approx({"v.mp4": 99, "frames": 11}[name], abs=1)
    with pytest.raises(VideoError, match=f"is over before {end} s, and frames up to {end + 1} s"):
        read_turn_frames(videos / name, [end - 1, end, end + 1], frames_fps=2)
