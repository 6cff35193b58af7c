"""``refstream eval``: a model on a benchmark."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from refstream.cli import answers, streams
from refstream.cli.console import note
from refstream.cli.options import device_of, dtype_of, gate_of, load_model
from refstream.cli.steps import Steps
from refstream.cli.tables import show, show_published
from refstream.errors import UserError
from refstream.evaluation.benchmark import MaskBenchmark
from refstream.evaluation.benchmarks import open_benchmark
from refstream.evaluation.curve import GateCurve, curve_gates, gate_curve
from refstream.evaluation.evaluate import MODEL, Evaluation
from refstream.evaluation.folder import CURVE, RANKS, REPORT, SPEED, clear, write_results
from refstream.evaluation.identity import model_key
from refstream.evaluation.protocols.base import EvalProtocol
from refstream.evaluation.qa import QA_BENCHMARKS
from refstream.evaluation.run import PER_STREAM
from refstream.evaluation.score import usual_jobs
from refstream.evaluation.shards import Shard, current_shard
from refstream.files import write_json
from refstream.resources import model_folder

DEFAULT_OUT = Path("outputs/eval")
MINIRVOS = {"clips": "num_clips", "frames": "num_frames", "seed": "seed", "world": "world"}
"""Options of the command that belong to MiniRVOS alone, and what its reader calls them."""


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream eval --help``."""
    if streams.applies(args):
        return streams.evaluate(args)
    if args.benchmark in QA_BENCHMARKS:
        return answers.evaluate(args)
    shard = current_shard(args.launcher)
    quiet = args.quiet or shard.rank > 0
    benchmark, protocol = open_asked(args)
    hidden = benchmark.hidden
    asked = [f"--{name}" for name in ("floors", "curve", "publish") if getattr(args, name)]
    if hidden and asked:
        raise UserError(
            f"{', '.join(asked)}: the truth of {benchmark.name} {benchmark.split} is not public, so nothing "
            "can be scored; leave that out"
        )
    folder = model_folder(args.model)
    out = args.out or DEFAULT_OUT / f"{folder.resolve().name}-{args.benchmark}-{benchmark.split}"
    _check_out(out, args.publish)
    with shard.beating(out / RANKS, first=(lambda: clear(out)) if args.fresh else None) as mine:
        device = _device_of(args, mine)
        dtype = dtype_of(args, device)
        model = load_model(folder, device, dtype)
        args.seed = args.seed or 0
        gate = gate_of(args, model.config.pipeline.get("gate"))
        overrides = {} if gate is None else {"gate": gate}
        with Steps(quiet) as steps:
            evaluation = Evaluation(
                model.pipeline(**overrides),
                benchmark,
                protocol,
                folder=out,
                key=model_key(folder, device, dtype, overrides),
                per_stream=args.per_stream or PER_STREAM,
                shard=mine,
                progress=steps,
                jobs=usual_jobs(benchmark, mine) if args.jobs is None else args.jobs,
                item_timeout=args.item_timeout,
            )
            predictions = evaluation.run(MODEL, benchmark)
            if hidden:
                if mine.rank == 0 and (speed := evaluation.speed()) is not None:
                    write_json(out / SPEED, asdict(speed))
                _say_submit(args, benchmark, out, quiet)
                return 0
            segmenter = model.segmenter if args.floors else None
            result = evaluation.result(args.model.as_posix(), segmenter=segmenter, floors=args.floors)
        if mine.rank == 0:
            curve = None if args.curve is None else _curve(args, model, benchmark, protocol, out, quiet)
            write_results(out, result, benchmark, predictions, show_published=args.published, curve=curve)
            if args.publish is not None:
                result.save(args.publish)
    if not quiet:
        show(result.table(), result.table(by_metric=True))
        if args.published:
            show_published(benchmark.name, benchmark.split)
        note(f"all of it is in {out}; open {out / REPORT}", quiet=quiet)
    return 0


def open_asked(args: argparse.Namespace) -> tuple[MaskBenchmark, EvalProtocol]:
    """The benchmark and the protocol that the options mean.

    Raises:
        UserError: If there is no such benchmark, its files are missing, or options do not belong to it.
    """
    given = {name: getattr(args, name) for name in MINIRVOS if getattr(args, name) is not None}
    if args.benchmark != "minirvos":
        foreign = [f"--{name}" for name in given if name != "seed"]  # gates are seeded too
        if foreign:
            raise UserError(
                f"{', '.join(foreign)}: of minirvos only; for a part of a benchmark, --max-videos"
            )
        given = {}
    options = {MINIRVOS[name]: value for name, value in given.items()}
    benchmark, protocol = open_benchmark(
        args.benchmark, args.data, args.split, protocol=args.protocol, compat=args.compat, **options
    )
    if args.max_videos is not None and args.max_videos < len(benchmark.videos):
        whole = len(benchmark.videos)
        benchmark = benchmark.subset([video.id for video in benchmark.videos[: args.max_videos]])
        benchmark.settings = {
            **benchmark.settings,
            "max_videos": args.max_videos,
            "note": f"the first {args.max_videos} of {whole} videos, not a result on the benchmark",
        }
    return benchmark, protocol


def _curve(
    args: argparse.Namespace,
    model: Any,
    benchmark: MaskBenchmark,
    protocol: EvalProtocol,
    out: Path,
    quiet: bool,
) -> GateCurve:
    """Measure and write the curve of ``--curve``."""
    gates = curve_gates(model.config.pipeline.get("gate"), args.curve)
    with Steps(quiet) as steps:
        curve = gate_curve(
            model,
            benchmark,
            gates,
            protocol,
            model_name=args.model.as_posix(),
            per_stream=args.per_stream or PER_STREAM,
            progress=lambda done, total: steps(f"curve of {len(gates)} gates", done, total),
        )
    curve.save(out / CURVE)
    return curve


def _check_out(out: Path, publish: Path | None) -> None:
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise UserError(f"--out {out}: {path} is a file, expected a folder; for one file, --publish FILE")
    if out.suffix == ".json":
        raise UserError(f"--out {out} is to be a folder; for one file, --publish {out}")
    if publish is not None and publish.is_dir():
        raise UserError(f"--publish {publish} is a folder; expected a file such as {publish / 'result.json'}")


def _device_of(args: argparse.Namespace, shard: Shard) -> torch.device:
    """The device that ``--device`` means; each process of a machine has its own GPU."""
    device = device_of(args)
    if device.type == "cuda" and shard.world > 1:
        device = torch.device("cuda", shard.local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    return device


def _say_submit(args: argparse.Namespace, benchmark: MaskBenchmark, out: Path, quiet: bool) -> None:
    words = ["refstream submit", str(out), "--benchmark", args.benchmark, "--split", benchmark.split]
    words += [] if args.data is None else ["--data", str(args.data)]
    note(
        f"the truth of {args.benchmark} {benchmark.split} is not public, so nothing was scored; masks of "
        f"{benchmark.num_expressions} expressions are in {out}. For the server: {' '.join(words)}",
        quiet=quiet,
    )
