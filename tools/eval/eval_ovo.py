"""Score a folder of OVO-Bench results:
``python tools/eval/eval_ovo.py --result_dir R --model NAME --mode offline``.

The arguments are those of the authors' ``score.py``, and the first lines are what it prints. ``--strict``
reads one letter, number or yes / no instead. With ``--anno_path`` what was not answered counts as wrong and
is listed.
"""

import argparse
import sys
from pathlib import Path

from refstream.cli.tables import show
from refstream.errors import UserError
from refstream.evaluation.qa import QA_BENCHMARKS, OVOResults, QABenchmark, load_qa_benchmark, score_answers
from refstream.evaluation.qa.ovo_scorers import official_lines
from refstream.files import write_json


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """See ``--help``."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument(
        "--result_dir", type=Path, default=Path("results"), help="folder of all models' results"
    )
    parser.add_argument("--model", required=True, help="name of the folder in it; any name")
    parser.add_argument(
        "--mode",
        choices=["online", "offline"],
        default="offline",
        help="taken for the authors' sake; changes nothing",
    )
    parser.add_argument("--anno_path", type=Path, help="ovo_bench_new.json: count what is missing as wrong")
    parser.add_argument("--strict", action="store_true", help="the strict scorer instead of the official one")
    parser.add_argument("--per_question", action="store_true", help="strict, tasks as means over records")
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0, 1 where the authors' script would stop with an error, 2 for bad input."""
    args = parse_arguments(argv)
    name = "strict-per-question" if args.per_question else "strict" if args.strict else "official"
    try:
        results = OVOResults(args.result_dir / args.model)
        benchmark: QABenchmark = results
        answers = results.answers
        if args.anno_path is not None:
            benchmark = load_qa_benchmark("ovo", anno_path=args.anno_path)
            answers = results.answers_for(benchmark)
        elif results.duplicates and name != "official":
            results.answers_for(
                benchmark
            )  # raises: what counts twice is a defect of the official scorer alone
        result = score_answers(benchmark, answers, QA_BENCHMARKS["ovo"].scorer(name))
        if args.out is not None:
            write_json(args.out, {"model": args.model, **result.to_dict()})
    except UserError as error:
        print(f"eval_ovo: error: {error}", file=sys.stderr)
        return 2
    if name == "official":
        print("\n".join(official_lines(args.model, result.summary)), flush=True)
    show(result.table())
    if results.duplicates:
        print(
            f"note: {len(results.duplicates)} records occur more than once and count as often",
            file=sys.stderr,
        )
    if result.missing:
        print(f"note: {result.missing_note()}", file=sys.stderr)
    if result.error:
        print(f"eval_ovo: the official scorer stops here: {result.error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
