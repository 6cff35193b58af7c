"""How prompts and masks of several models move on one clip, beside the truth: a picture and its points.

    python tools/plot_prompts.py --plan projects/spot/configs/ablation.py --rows SPOT "without the bridge" \\
        --video minirvos_rich_test_0_clip_000005 --expression 0 --out FILE.svg
    python tools/plot_prompts.py --run "full FOLDER" --run "boxes_alone FOLDER points=False" --of masks \\
        --benchmark minirvos --options seed=0 num_clips=60 --video ... --expression ... --out FILE.svg

FILE.json beside the picture holds the points. Underscores in names of runs are spaces; a folder or value with
spaces stands in quotes of its own.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import DictAction

from refstream.engine.ablation import read_plan, row_models
from refstream.errors import UserError
from refstream.evaluation.benchmarks import load_benchmark
from refstream.evaluation.provenance import provenance
from refstream.evaluation.report.trajectory_chart import trajectory_chart
from refstream.evaluation.trajectories import MASKS, PROMPTS, ClipTrajectories, clip_trajectories
from refstream.files import atomic_write_text, write_json
from refstream.models.loading import load

Runs = dict[str, tuple[str, dict[str, Any]]]
NOTES = {PROMPTS: ("prompt_jerk", "gt_prompt_jerk"), MASKS: ("jitter", "gt_jitter")}


def keys(pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE ...; dots in keys nest."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"expected KEY=VALUE, got {pair!r}")
        *outer, last = key.split(".")
        inner = found
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = DictAction._parse_iterable(value)
    return found


def asked(args: argparse.Namespace) -> tuple[Runs, dict[str, Any]]:
    """Name -> (folder, keys of the pipeline), and the benchmark's name and options."""
    runs: Runs = {}
    options = {"name": args.benchmark or "minirvos"}
    if args.plan is not None:
        try:
            plan = read_plan(args.plan)
            runs = row_models(plan, args.rows or [row["name"] for row in plan["rows"]][:1], args.seed_number)
        except (ValueError, FileNotFoundError) as error:
            raise UserError(str(error)) from error
        if args.benchmark is None:
            options = dict(plan["benchmark"])
    elif args.rows:
        raise UserError("--rows are rows of a --plan")
    for text in args.run:
        name, *rest = shlex.split(text)
        if not rest:
            raise UserError(f"--run {text!r}: expected NAME FOLDER KEY=VALUE ...")
        runs[name.replace("_", " ")] = rest[0], keys(rest[1:])
    if not runs:
        raise UserError("nothing to draw; give --run or --plan")
    return runs, options | keys(args.options)


def notes(found: ClipTrajectories, of: str) -> dict[str, str]:
    """For the legend: each run's unsteadiness, and the truth's."""
    own, true = NOTES[of]
    said = {run.name: run.stability.get(own) for run in found.runs}
    said["truth"] = next((run.stability[true] for run in found.runs if true in run.stability), None)
    words = own.replace("_", " ")
    return {name: f"{words} {value:.2f} %" for name, value in said.items() if value is not None}


def make(folder: str, pipeline: dict[str, Any]) -> Callable[[], Any]:
    """Loads when called."""
    return lambda: load(folder).pipeline(**pipeline)


def draw(args: argparse.Namespace) -> None:
    """Run the models and write the picture and its points."""
    runs, options = asked(args)
    benchmark = load_benchmark(options.pop("name"), **options)
    makers = {name: make(*run) for name, run in runs.items()}
    found = clip_trajectories(benchmark, args.video, args.expression, makers)
    title = f"{found.text}: centres of {'boxes' if args.of == PROMPTS else 'masks'}"
    chart = trajectory_chart(found.places(args.of), found.size, title, notes(found, args.of))
    atomic_write_text(args.out, chart.document())
    write_json(
        args.out.with_suffix(".json"),
        {
            **provenance([]),
            "command": " ".join(["python", *sys.argv]),
            "benchmark": dict(benchmark.settings),
            **found.to_dict(),
        },
    )


def main() -> int:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", action="append", default=[], help="NAME FOLDER KEY=VALUE ...")
    parser.add_argument("--plan", type=Path, help="config of an ablation that was run")
    parser.add_argument("--rows", nargs="+", help="of the plan; default its first")
    parser.add_argument("--seed-number", type=int, default=0, help="which seed of each arm, from 0")
    parser.add_argument("--benchmark", help="default: the plan's, else minirvos")
    parser.add_argument("--options", nargs="+", default=[], metavar="KEY=VALUE", help="of its reader")
    parser.add_argument("--video", required=True)
    parser.add_argument("--expression", required=True)
    parser.add_argument("--of", choices=(PROMPTS, MASKS), default=PROMPTS)
    parser.add_argument("--out", type=Path, required=True, help="an .svg file")
    args = parser.parse_args()
    if args.out.suffix != ".svg":
        parser.error(f"--out {args.out}: expected an .svg file")
    try:
        draw(args)
    except (UserError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
