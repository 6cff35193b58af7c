"""Benchmarks answered in words: OVO-Bench, and multiple choice on videos.

benchmark = load_qa_benchmark("ovo", root="data/video_qa/ovo_bench")
answers = answer_questions(MLLMAnswerer(model), benchmark, FolderLedger("work_dirs/ovo")).answers
result = score_answers(benchmark, answers, QA_BENCHMARKS["ovo"].scorer("strict"))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refstream.errors import UserError
from refstream.evaluation.qa.answers import read_answers, write_answers
from refstream.evaluation.qa.base import QABenchmark, Question
from refstream.evaluation.qa.frames import FrameSampling
from refstream.evaluation.qa.longvideobench import LongVideoBench, LongVideoBenchOfficial
from refstream.evaluation.qa.mllm import MLLMAnswerer
from refstream.evaluation.qa.mvbench import MVBench, MVBenchOfficial
from refstream.evaluation.qa.ovo import OVOBench
from refstream.evaluation.qa.ovo_events import answers_from_events, read_event_log, stream_queries
from refstream.evaluation.qa.ovo_results import OVOResults, write_results
from refstream.evaluation.qa.ovo_scorers import OVOOfficial, OVOStrict, OVOStrictPerQuestion
from refstream.evaluation.qa.run import Answerer, answer_questions, run_key
from refstream.evaluation.qa.scoring import QAResult, QAScorer, StrictScorer, score_answers
from refstream.evaluation.qa.tempcompass import TempCompass, TempCompassOfficial, TempCompassStrict
from refstream.evaluation.qa.videomme import VideoMME, VideoMMEOfficial

__all__ = [
    "QA_BENCHMARKS",
    "Answerer",
    "FrameSampling",
    "MLLMAnswerer",
    "OVOResults",
    "QABenchmark",
    "QAEntry",
    "QAResult",
    "QAScorer",
    "Question",
    "answer_questions",
    "answers_from_events",
    "load_qa_benchmark",
    "read_answers",
    "read_event_log",
    "run_key",
    "score_answers",
    "stream_queries",
    "write_answers",
    "write_results",
]


@dataclass(frozen=True)
class QAEntry:
    """One row of the table of benchmarks.

    Attributes:
        title: As the authors call it.
        reader: Makes the benchmark from ``root`` and its own options.
        scorers: The first is the default, whose figures papers quote.
        default_root: Where its files belong.
    """

    title: str
    reader: Callable[..., QABenchmark]
    scorers: tuple[QAScorer, ...]
    default_root: str

    def scorer(self, name: str | None = None) -> QAScorer:
        """A scorer by name, the default for None. Raises UserError if there is none of this name."""
        if name is None:
            return self.scorers[0]
        for scorer in self.scorers:
            if scorer.name == name:
                return scorer
        names = ", ".join(scorer.name for scorer in self.scorers)
        raise UserError(f"{self.title} has no scorer {name!r}; available: {names}")


QA_BENCHMARKS: dict[str, QAEntry] = {
    "ovo": QAEntry(
        "OVO-Bench", OVOBench, (OVOOfficial(), OVOStrict(), OVOStrictPerQuestion()), "data/video_qa/ovo_bench"
    ),
    "mvbench": QAEntry("MVBench", MVBench, (MVBenchOfficial(), StrictScorer()), "data/video_qa/mvbench"),
    "tempcompass": QAEntry(
        "TempCompass", TempCompass, (TempCompassOfficial(), TempCompassStrict()), "data/video_qa/tempcompass"
    ),
    "videomme": QAEntry(
        "Video-MME", VideoMME, (VideoMMEOfficial(), StrictScorer()), "data/video_qa/videomme"
    ),
    "longvideobench": QAEntry(
        "LongVideoBench",
        LongVideoBench,
        (LongVideoBenchOfficial(), StrictScorer()),
        "data/video_qa/longvideobench",
    ),
}


def load_qa_benchmark(name: str, **options: Any) -> QABenchmark:
    """Open a benchmark; ``options`` are those of its reader, ``root`` among them.

    Raises:
        UserError: If no benchmark has this name, or its files are not as they should be.
    """
    if name not in QA_BENCHMARKS:
        raise UserError(f"unknown benchmark {name!r}; available: {', '.join(sorted(QA_BENCHMARKS))}")
    return QA_BENCHMARKS[name].reader(**options)
