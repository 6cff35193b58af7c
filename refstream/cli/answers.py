"""``refstream eval`` and ``refstream score`` for benchmarks that are answered in words."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Mapping
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
from refstream.evaluation.qa.ovo_events import fitting_rules, is_event_log
from refstream.evaluation.qa.tempcompass import TempCompass, read_predictions
from refstream.evaluation.shards import Shard, current_shard
from refstream.files import atomic_write_text, write_json
from refstream.resources import model_folder

ANSWERS, FINISHED = "answers.json", "finished"
NUM_LISTED = 20


def evaluate(args: argparse.Namespace) -> int:
    """Let a model answer, then score; resumable like every evaluation."""
    benchmark = open_asked(args)
    scorer = QA_BENCHMARKS[args.benchmark].scorer(args.protocol)
    shard = current_shard(args.launcher)
    quiet = args.quiet or shard.rank > 0
    folder = model_folder(args.model)
    out = args.out or Path("outputs/eval") / f"{folder.resolve().name}-{args.benchmark}"
    sampling = FrameSampling(fps=args.qa_fps, max_frames=args.qa_frames)
    device = device_of(args)
    dtype = dtype_of(args, device)
    key = run_key(benchmark, "", sampling) | model_key(folder, device, dtype, {})

    def first() -> None:
        if args.fresh:
            clear(out)
        forget_finished(out)

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
        problems = gather_problems(mine, out, key, answered.problems)
        if problems is None:
            return 0
    say_problems(problems, len(benchmark.questions) - len(problems), benchmark.name, quiet=quiet)
    answers = {q.id: r["answer"] for q in benchmark.questions if (r := ledger.read(q.id)) is not None}
    write_answers(out / ANSWERS, answers)
    return report(args, score_answers(benchmark, answers, scorer), str(args.model), out)


def forget_finished(out: Path) -> None:
    """Remove what the processes of an earlier run said at their end."""
    for path in (out / FINISHED / "items").glob("*.json"):
        path.unlink()


def gather_problems(
    mine: Shard, out: Path, key: Mapping[str, Any], problems: Mapping[str, str]
) -> dict[str, str] | None:
    """What could not be asked, of all processes: in rank 0, once all have ended; None in the others."""
    ranks = FolderLedger(out / FINISHED, key)
    ranks.write(str(mine.rank), {"item": str(mine.rank), "problems": dict(problems)})
    if mine.rank > 0:
        return None
    everyone = {str(rank) for rank in range(mine.world)}
    mine.wait(ranks, everyone, "answering")
    gathered: dict[str, str] = {}
    for rank in sorted(everyone):
        gathered |= (ranks.read(rank) or {}).get("problems", {})
    return gathered


def say_problems(problems: Mapping[str, str], asked: int, benchmark: str, *, quiet: bool) -> None:
    """Note the first of them. Raises UserError if nothing at all could be asked."""
    if problems and not asked:
        name, problem = next(iter(problems.items()))
        raise UserError(
            f"none of the {len(problems)} questions of {benchmark} could be asked, such as {name}: "
            f"{problem}; docs/benchmarks_qa.md says where the videos belong"
        )
    for name, problem in list(problems.items())[:NUM_LISTED]:
        note(f"{name}: {problem}", quiet=quiet)
    if len(problems) > NUM_LISTED:
        note(f"... in all, {len(problems)} questions could not be asked", quiet=quiet)


def read_any(path: Path, benchmark: QABenchmark) -> Answers:
    """Answers from a file, a folder of ``refstream eval``, or what the benchmark's authors or streams leave.

    Those are a folder of results of OVO-Bench or TempCompass, and for OVO-Bench a log of events (``.jsonl``
    with query_id, time_s and text), read by ``fitting_rules``.

    Raises:
        UserError: If it is of another form.
    """
    if path.is_dir() and not (path / ANSWERS).is_file():
        if isinstance(benchmark, OVOBench):
            return OVOResults(path).answers_for(benchmark)
        if isinstance(benchmark, TempCompass):
            return read_predictions(path)
    if isinstance(benchmark, OVOBench) and is_event_log(path):
        logs = read_event_log(path)
        return answers_from_events(benchmark, logs, **fitting_rules(logs))
    return read_answers(path / ANSWERS if path.is_dir() else path)


def score(args: argparse.Namespace) -> int:
    """Score answers in any form that ``read_any`` reads."""
    benchmark = open_asked(args)
    path: Path = args.predictions
    answers = read_any(path, benchmark)
    result = score_answers(benchmark, answers, QA_BENCHMARKS[args.benchmark].scorer(args.protocol))
    if result.missing and args.missing == "refuse":
        raise UserError(
            f"expected {result.expected} answers, found {result.found}; {result.missing_note()}. "
            "With --missing score they count as wrong"
        )
    out = args.out or Path("outputs/score") / f"{path.resolve().stem}-{args.benchmark}"
    return report(args, result, str(path), out)


def open_asked(args: argparse.Namespace) -> QABenchmark:
    wrong = [name for name in ("split", "compat") if getattr(args, name) is not None]
    if wrong:
        raise UserError(f"--{wrong[0]} means nothing to {args.benchmark}; leave it out")
    options: dict[str, Any] = {} if args.data is None else {"root": args.data}
    return load_qa_benchmark(args.benchmark, **options)


def report(
    args: argparse.Namespace,
    result: QAResult,
    subject: str,
    out: Path,
    extra: Mapping[str, Any] | None = None,
) -> int:
    """Write result.json (with more fields if given) and items.csv, print the table."""
    rows = [{"group": group, **figures} for group, figures in result.summary.items()]
    write_json(
        out / RESULT, {**provenance([]), "model": subject, "rows": rows, **result.to_dict(), **(extra or {})}
    )
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
