"""``refstream eval`` and ``refstream score`` for benchmarks that are answered in words."""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path
from typing import Any

from refstream.cli.console import note, progress_bar
from refstream.cli.options import device_of, dtype_of, load_model
from refstream.cli.tables import show, show_published
from refstream.errors import UserError
from refstream.evaluation.folder import ITEMS, RANKS, RESULT, clear
from refstream.evaluation.identity import model_key
from refstream.evaluation.ledger import FolderLedger
from refstream.evaluation.provenance import provenance
from refstream.evaluation.qa import (
    QA_BENCHMARKS,
    FrameSampling,
    MLLMAnswerer,
    OVOResults,
    QABenchmark,
    QAResult,
    answer_questions,
    answers_from_events,
    load_qa_benchmark,
    read_answers,
    read_event_log,
    run_key,
    score_answers,
    write_answers,
)
from refstream.evaluation.qa.answers import Answers
from refstream.evaluation.qa.ovo import OVOBench
from refstream.evaluation.qa.ovo_events import is_event_log
from refstream.evaluation.qa.tempcompass import TempCompass, read_predictions
from refstream.evaluation.shards import current_shard
from refstream.files import atomic_write_text, write_json
from refstream.resources import model_folder

ANSWERS = "answers.json"
NUM_LISTED = 20


def evaluate(args: argparse.Namespace) -> int:
    """Let a model answer, then score; resumable like every evaluation."""
    benchmark = _open(args)
    scorer = QA_BENCHMARKS[args.benchmark].scorer(args.protocol)
    shard = current_shard(args.launcher)
    quiet = args.quiet or shard.rank > 0
    folder = model_folder(args.model)
    out = args.out or Path("outputs/eval") / f"{folder.resolve().name}-{args.benchmark}"
    sampling = FrameSampling(fps=args.qa_fps, max_frames=args.qa_frames)
    device = device_of(args)
    dtype = dtype_of(args, device)
    key = run_key(benchmark, "", sampling) | model_key(folder, device, dtype, {})
    finished = out / "finished"

    def first() -> None:
        if args.fresh:
            clear(out)
        for path in (finished / "items").glob("*.json"):  # of an earlier run
            path.unlink()

    with shard.beating(out / RANKS, first=first) as mine:
        ledger = FolderLedger(out / "run", key)
        questions = mine.take(list(benchmark.questions), lambda question: 1)
        model = load_model(folder, device, dtype)
        with progress_bar("answering", len(questions), quiet=quiet) as advance:
            answered = answer_questions(
                MLLMAnswerer(model),
                benchmark,
                ledger,
                sampling=sampling,
                only=[question.id for question in questions],
                progress=lambda done, total: advance(),
            )
        ranks = FolderLedger(finished, key)
        ranks.write(str(mine.rank), {"item": str(mine.rank), "problems": answered.problems})
        if mine.rank > 0:
            return 0
        everyone = {str(rank) for rank in range(mine.world)}
        mine.wait(ranks, everyone, "answering")
    problems: dict[str, str] = {}
    for rank in sorted(everyone):
        problems |= (ranks.read(rank) or {}).get("problems", {})
    if len(problems) == len(benchmark.questions):
        name, problem = next(iter(problems.items()))
        raise UserError(
            f"none of the {len(problems)} questions of {benchmark.name} could be asked, such as {name}: "
            f"{problem}; docs/benchmarks_qa.md says where the videos belong"
        )
    for name, problem in list(problems.items())[:NUM_LISTED]:
        note(f"{name}: {problem}", quiet=quiet)
    if len(problems) > NUM_LISTED:
        note(f"... in all, {len(problems)} questions could not be asked", quiet=quiet)
    answers = {q.id: r["answer"] for q in benchmark.questions if (r := ledger.read(q.id)) is not None}
    write_answers(out / ANSWERS, answers)
    return _report(args, score_answers(benchmark, answers, scorer), str(args.model), out)


def read_any(path: Path, benchmark: QABenchmark) -> Answers:
    """Answers from a file, a folder of ``refstream eval``, or what the benchmark's authors or streams leave.

    Those are a folder of results of OVO-Bench or TempCompass, and for OVO-Bench a log of events (``.jsonl``
    with query_id, time_s and text), of which the last word before each question counts.

    Raises:
        UserError: If it is of another form.
    """
    if path.is_dir() and not (path / ANSWERS).is_file():
        if isinstance(benchmark, OVOBench):
            return OVOResults(path).answers_for(benchmark)
        if isinstance(benchmark, TempCompass):
            return read_predictions(path)
    if isinstance(benchmark, OVOBench) and is_event_log(path):
        return answers_from_events(benchmark, read_event_log(path))
    return read_answers(path / ANSWERS if path.is_dir() else path)


def score(args: argparse.Namespace) -> int:
    """Score answers in any form that ``read_any`` reads."""
    benchmark = _open(args)
    path: Path = args.predictions
    answers = read_any(path, benchmark)
    result = score_answers(benchmark, answers, QA_BENCHMARKS[args.benchmark].scorer(args.protocol))
    if result.missing and args.missing == "refuse":
        raise UserError(
            f"expected {result.expected} answers, found {result.found}; {result.missing_note()}. "
            "With --missing score they count as wrong"
        )
    out = args.out or Path("outputs/score") / f"{path.resolve().stem}-{args.benchmark}"
    return _report(args, result, str(path), out)


def _open(args: argparse.Namespace) -> QABenchmark:
    wrong = [name for name in ("split", "compat") if getattr(args, name) is not None]
    if wrong:
        raise UserError(f"--{wrong[0]} means nothing to {args.benchmark}; leave it out")
    options: dict[str, Any] = {} if args.data is None else {"root": args.data}
    return load_qa_benchmark(args.benchmark, **options)


def _report(args: argparse.Namespace, result: QAResult, subject: str, out: Path) -> int:
    """Write result.json and items.csv, print the table."""
    rows = [{"group": group, **figures} for group, figures in result.summary.items()]
    write_json(out / RESULT, {**provenance([]), "model": subject, "rows": rows, **result.to_dict()})
    text = io.StringIO()
    lines = result.rows()
    writer = csv.DictWriter(text, list(dict.fromkeys(k for line in lines for k in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    atomic_write_text(out / ITEMS, text.getvalue())
    if not args.quiet:
        show(result.table())
        if args.published:
            show_published(args.benchmark)
        if result.missing:
            note(result.missing_note())
        note(f"all of it is in {out}")
    return 0
