"""Frames up to the question's time, resumable runs, and the MLLM that answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from refstream.errors import UserError, VideoError
from refstream.evaluation.ledger import FolderLedger, MemoryLedger
from refstream.evaluation.qa import FrameSampling, MLLMAnswerer, answer_questions, run_key
from refstream.evaluation.qa.frames import sample_frames
from refstream.files import write_png
from refstream.testing import small_model
from refstream.video import write_video

FPS, NUM_FRAMES = 10.0, 100


def grey(number: int) -> np.ndarray:
    return np.full((32, 48, 3), 2 * number + 20, dtype=np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds, 100 frames, each of its own grey."""
    path = tmp_path_factory.mktemp("videos") / "ten.mp4"
    write_video(path, [grey(i) for i in range(NUM_FRAMES)], fps=FPS)
    return path


def numbers(path: Path, start: float, end: float | None, sampling: FrameSampling) -> list[int]:
    frames = sample_frames(path, start, end, sampling)
    shown = [(float(frame.image.mean()) - 20) / 2 for frame in frames]
    assert shown == pytest.approx([frame.index for frame in frames], abs=1), "the picture is that of its time"
    return [frame.index for frame in frames]


@pytest.mark.parametrize(
    ("start", "end", "sampling", "expected"),
    [
        (0, 3, FrameSampling(), [0, 10, 20, 30]),
        (0, 2.55, FrameSampling(), [5, 15, 25]),
        (0, 0, FrameSampling(), [0]),
        (2, 4, FrameSampling(fps=2), [20, 25, 30, 35, 40]),
        (0, 8, FrameSampling(max_frames=3), [0, 40, 80]),
        (0, 8, FrameSampling(max_frames=3, keep="latest"), [60, 70, 80]),
        (0, 8, FrameSampling(max_frames=1), [80]),
        (0, None, FrameSampling(fps=0.5), [19, 39, 59, 79, 99]),
        (0, 60, FrameSampling(fps=0.5), [19, 39, 59, 79, 99]),
        (0, 0.3, FrameSampling(fps=100), [0, 1, 2, 3]),
    ],
)
def test_frames_are_those_of_the_times(video, start, end, sampling, expected):
    assert numbers(video, start, end, sampling) == expected


def test_no_frame_is_later_than_the_question(video):
    for end in np.random.default_rng(0).uniform(0, 9.9, 4):
        frames = sample_frames(video, 0, float(end), FrameSampling(fps=3))
        assert frames[-1].time_s <= end + 1e-6
        assert end - frames[-1].time_s < 0.1 + 1e-6, "the moment that is asked about is among them"


def test_folders_of_frames(tmp_path):
    for i in range(9):
        write_png(tmp_path / f"{i + 1:05d}.png", grey(i), durable=False)
    frames = sample_frames(tmp_path, 1, 2, FrameSampling(), fps=3.0)
    assert [frame.index for frame in frames] == [3, 6]


def test_sampling_errors(video, tmp_path):
    with pytest.raises(UserError, match="fps above 0"):
        FrameSampling(fps=0)
    with pytest.raises(UserError, match="keep must be one of"):
        FrameSampling(keep="some")
    with pytest.raises(VideoError, match=r"ends at 9\.90 s, before the question's first time 20\.00 s"):
        sample_frames(video, 20, 30, FrameSampling())
    with pytest.raises(VideoError, match="no such file"):
        sample_frames(tmp_path / "none.mp4", 0, 1, FrameSampling())


class Counting:
    """Says how many frames it saw, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fail_at: int | None = None

    def answer(self, frames: Sequence[np.ndarray], times: Sequence[float], prompt: str) -> str:
        if len(self.asked) == self.fail_at:
            raise KeyboardInterrupt
        self.asked.append(prompt)
        assert len(frames) == len(times)
        return f"{len(frames)} up to {times[-1]:.1f}"


@pytest.fixture
def benchmark(ovo, video, tmp_path):
    """The five records on the ten-second video; the first video of two is missing."""
    (tmp_path / "src_videos").mkdir()
    (tmp_path / "src_videos/b.mp4").symlink_to(video)
    return ovo


def test_questions_are_answered_up_to_their_time(benchmark):
    ledger = MemoryLedger()
    steps: list[tuple[int, int]] = []
    answered = answer_questions(Counting(), benchmark, ledger, progress=lambda *step: steps.append(step))
    assert answered.answers["7_0"] == "2 up to 1.5"
    assert answered.answers["8_2"] == "9 up to 8.0"
    assert set(answered.problems) == {"5", "6"}
    assert "one.mp4" in answered.problems["5"]
    assert ledger.done() == set(answered.answers)
    record = ledger.read("7_0")
    assert record is not None
    assert record["times_s"] == pytest.approx([0.5, 1.5])
    assert steps[-1] == (12, 12)


def test_a_killed_run_goes_on(benchmark, tmp_path):
    key = run_key(benchmark, "counting", FrameSampling())
    whole = FolderLedger(tmp_path / "whole", key)
    answer_questions(Counting(), benchmark, whole)
    ledger, first, second = FolderLedger(tmp_path / "cut", key), Counting(), Counting()
    first.fail_at = 4
    with pytest.raises(KeyboardInterrupt):
        answer_questions(first, benchmark, ledger)
    assert len(ledger.done()) == 4
    answer_questions(second, benchmark, FolderLedger(tmp_path / "cut", key))
    assert len(first.asked) + len(second.asked) == 10, "nothing is asked twice"
    files = [{p.name: p.read_bytes() for p in (tmp_path / n / "items").iterdir()} for n in ("whole", "cut")]
    assert files[0] == files[1]
    with pytest.raises(UserError, match="holds results of another run"):
        FolderLedger(tmp_path / "cut", run_key(benchmark, "counting", FrameSampling(fps=2)))


def test_a_share_of_the_questions(benchmark):
    answered = answer_questions(Counting(), benchmark, MemoryLedger(), only=["7_1", "9_0"])
    assert list(answered.answers) == ["7_1", "9_0"]
    with pytest.raises(UserError, match="no question 'x'"):
        answer_questions(Counting(), benchmark, MemoryLedger(), only=["x"])


def test_the_mllm_answers(benchmark):
    """Random weights: what is said means nothing, but it is text, repeats, and depends on the frames."""
    answerer = MLLMAnswerer(small_model(), max_new_tokens=6)
    ledger = MemoryLedger()
    answered = answer_questions(
        answerer, benchmark, ledger, only=["9_0"], sampling=FrameSampling(max_frames=2)
    )
    images = [
        frame.image
        for frame in sample_frames(
            benchmark.video_path(benchmark.by_id["9_0"]), 0, 3, FrameSampling(max_frames=2)
        )
    ]
    again = answerer.answer(images, [0.0, 3.0], benchmark.by_id["9_0"].prompt)
    assert answered.answers["9_0"] == again
    assert "<|im_end|>" not in again


def test_the_mllm_sees_frames_and_question():
    model = small_model()
    seen: list[tuple[int, int]] = []
    generate = model.mllm.generate

    def spy(chat, tokens, **keys):
        seen.append((chat.num_image_slots, tokens.shape[0]))
        text = model.mllm.tokenizer.decode(chat.input_ids[0])
        assert "0.0, 1.0" in text
        assert "What is it?" in text
        return generate(chat, tokens, **keys)

    model.mllm.generate = spy
    frames = [np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 250, np.uint8)]
    MLLMAnswerer(model, max_new_tokens=2, say_times=True).answer(frames, [0.0, 1.0], "What is it?")
    assert seen == [(2 * model.mllm.num_image_tokens, 2)]


def test_answers_depend_on_the_frames():
    torch.manual_seed(1)
    model = small_model()
    for parameter in model.mllm.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    rng = np.random.default_rng(0)
    answerer = MLLMAnswerer(model, max_new_tokens=8)
    said = {
        answerer.answer([rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)], [0.0], "?") for _ in range(6)
    }
    assert len(said) > 1


def test_mllm_errors():
    answerer = MLLMAnswerer(small_model(), max_new_tokens=400)
    with pytest.raises(UserError, match="lower the number of frames"):
        answerer.answer([grey(0)] * 30, list(range(30)), "What happens in this video, and why?")
    with pytest.raises(UserError, match="at least one frame"):
        answerer.answer([], [], "What?")
    with pytest.raises(UserError, match="max_new_tokens"):
        MLLMAnswerer(small_model(), max_new_tokens=0)
