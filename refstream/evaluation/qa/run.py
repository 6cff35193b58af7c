"""A model answers the questions of a benchmark, one record per question, so that a killed run can go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from refstream.errors import UserError, VideoError
from refstream.evaluation.ledger import Ledger
from refstream.evaluation.qa.base import QABenchmark, Question
from refstream.evaluation.qa.frames import FrameSampling, sample_frames


class Answerer(Protocol):
    """Whatever answers a question about some frames."""

    def answer(self, frames: Sequence[np.ndarray], times: Sequence[float], prompt: str) -> str:
        """Say what is asked for.

        Args:
            frames: T images (H, W, 3) uint8 RGB in the order of time.
            times: T seconds from the start of the video.
            prompt: The benchmark's words.
        """
        ...


@dataclass(frozen=True)
class Answered:
    """What a run came to.

    Attributes:
        answers: Question id -> text, of all questions that were answered, in this run or before.
        problems: Question id -> why it was not answered: its video is missing or broken.
    """

    answers: dict[str, str]
    problems: dict[str, str]


def answer_questions(
    answerer: Answerer,
    benchmark: QABenchmark,
    ledger: Ledger,
    *,
    sampling: FrameSampling | None = None,
    only: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Answered:
    """Answer what the ledger does not hold yet.

    A question whose video is missing or broken has no record: it is listed, counts as wrong when scored, and
    is tried again in the next run.

    Args:
        answerer: The model.
        benchmark: The questions.
        ledger: Gets {"item", "answer", "prompt", "times_s"} of each question. Its key should hold
            ``run_key``.
        sampling: Which frames; one per second by default.
        only: Ids of the questions to answer here (a process's share); all by default.
        progress: Called with the numbers of questions done and in all.

    Raises:
        UserError: If ``only`` names an unknown question, or a model cannot take so many frames.
    """
    chosen = FrameSampling() if sampling is None else sampling
    unknown = [name for name in only or () if name not in benchmark.by_id]
    if unknown:
        raise UserError(f"{benchmark.name} has no question {unknown[0]!r}")
    share = benchmark.questions if only is None else [benchmark.by_id[name] for name in only]
    done = ledger.done()
    answers: dict[str, str] = {}
    problems: dict[str, str] = {}
    for number, question in enumerate(share, 1):
        record = ledger.read(question.id) if question.id in done else None
        if record is None:
            try:
                record = _answer(answerer, benchmark, question, chosen)
            except VideoError as error:
                problems[question.id] = str(error)
            else:
                ledger.write(question.id, record)
        if record is not None:
            answers[question.id] = record["answer"]
        if progress is not None:
            progress(number, len(share))
    return Answered(answers, problems)


def run_key(benchmark: QABenchmark, model: str, sampling: FrameSampling) -> dict[str, Any]:
    """What the answers of a run depend on, for the key of its ledger."""
    return {
        "benchmark": benchmark.name,
        "questions": benchmark.fingerprint,
        "model": model,
        "frames": asdict(sampling),
    }


def _answer(
    answerer: Answerer, benchmark: QABenchmark, question: Question, sampling: FrameSampling
) -> dict[str, Any]:
    frames = sample_frames(
        benchmark.video_path(question),
        question.start_s,
        question.end_s,
        sampling,
        fps=benchmark.video_fps(question),
    )
    times = [frame.time_s for frame in frames]
    text = answerer.answer([frame.image for frame in frames], times, question.prompt)
    return {"item": question.id, "answer": text, "prompt": question.prompt, "times_s": times}
