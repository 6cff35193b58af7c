"""``refstream eval`` for models that answer in words while a stream runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from refstream.cli import answers
from refstream.cli.console import note, progress_bar
from refstream.cli.options import device_of, dtype_of, load_model
from refstream.cli.steps import Steps
from refstream.cli.tables import show
from refstream.errors import UserError
from refstream.evaluation.folder import ITEMS, RANKS, RESULT, SPEED, clear
from refstream.evaluation.identity import model_key
from refstream.evaluation.ledger import FolderLedger
from refstream.evaluation.listening import speed_of
from refstream.evaluation.qa import QA_BENCHMARKS, answers_from_events, score_answers, write_answers
from refstream.evaluation.qa.ovo import OVOBench
from refstream.evaluation.qa.ovo_events import fitting_rules
from refstream.evaluation.qa.stream_run import (
    PER_STREAM,
    forward_timing,
    heard_logs,
    plan_streams,
    run_streams,
    stream_key,
    write_event_log,
)
from refstream.evaluation.readers.minirvos_streams import minirvos_streams
from refstream.evaluation.shards import current_shard
from refstream.evaluation.stream_evaluation import MODEL, StreamEvaluation
from refstream.evaluation.stream_tasks import NAME, StreamWorld
from refstream.files import write_json
from refstream.models.protocols import answers_of
from refstream.registry import PIPELINES, import_methods
from refstream.resources import model_folder
from refstream.synthetic.scene import Split

EVENTS = "events.jsonl"
OVO = "ovo"
SPLITS: tuple[Split, ...] = ("test", "val", "train")


def applies(args: argparse.Namespace) -> bool:
    """Whether a benchmark is run by streaming.

    minirvos_streams always is; OVO-Bench if the model answers in words and ``--offline`` is not given.

    Raises:
        UserError: If an option of streams is given and would be passed over.
    """
    is_ovo = args.benchmark == OVO
    if args.benchmark == NAME or (is_ovo and not args.offline and speaks(model_folder(args.model))):
        if args.benchmark == NAME and (args.offline or args.force_choices):
            raise UserError("--offline, --force-choices: of ovo only; leave that out")
        return True
    given = [name for name in ("--fps", "--force-choices") if getattr(args, name[2:].replace("-", "_"))]
    given += ["--offline"] if args.offline and not is_ovo else []
    if given:
        raise UserError(
            f"{', '.join(given)}: of {NAME}, and of {OVO} with a model that answers in words in a stream"
        )
    return False


def evaluate(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream eval --help``."""
    return _mini(args) if args.benchmark == NAME else _ovo(args)


def speaks(folder: Path) -> bool:
    """Whether the pipeline that a model's config.json names answers in words."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / 'config.json'} cannot be read ({error}); is it a model folder?"
        ) from error
    pipeline = config.get("pipeline") if isinstance(config, dict) else None
    kind = pipeline.get("type") if isinstance(pipeline, dict) else None
    import_methods()
    found = PIPELINES.get(str(kind)) if kind else None
    return found is not None and answers_of(found) != "masks"


def _mini(args: argparse.Namespace) -> int:
    world = _world(args)
    shard = current_shard(args.launcher)
    quiet = args.quiet or shard.rank > 0
    folder = model_folder(args.model)
    if not speaks(folder):
        raise UserError(f"{folder} answers in masks; {NAME} wants a model that answers in words")
    out = args.out or Path("outputs/eval") / f"{folder.resolve().name}-{NAME}-{world.split}"
    with shard.beating(out / RANKS, first=(lambda: clear(out)) if args.fresh else None) as mine:
        device = device_of(args)
        dtype = dtype_of(args, device)
        overrides = _overrides(args)
        model = load_model(folder, device, dtype)
        with Steps(quiet) as steps:
            evaluation = StreamEvaluation(
                model.pipeline(**overrides),
                world,
                folder=out,
                key=model_key(folder, device, dtype, overrides),
                per_stream=args.per_stream or PER_STREAM,
                shard=mine,
                progress=steps,
            )
            result = evaluation.result(args.model.as_posix(), floors=args.floors)
        if mine.rank > 0:
            return 0
        speed = speed_of(evaluation.ledger(MODEL, "costs"))
        write_json(out / RESULT, result.to_dict())
        result.save_csv(out / ITEMS)
        if speed is not None:
            write_json(out / SPEED, speed)
        if args.publish is not None:
            write_json(args.publish, {**result.to_dict(), "speed": speed})
    if not quiet:
        show(result.table(by_metric=True))
        note(f"all of it is in {out}")
    return 0


def _world(args: argparse.Namespace) -> StreamWorld:
    given = ("protocol", "compat", "curve", "data", "frames", "world", "gate", "tau1", "tau2")
    foreign = [f"--{name}" for name in given if getattr(args, name) is not None]
    foreign += ["--published"] if args.published else []
    if foreign:
        raise UserError(f"{', '.join(foreign)}: of no meaning to {NAME}; leave that out")
    split = next((one for one in SPLITS if one == (args.split or SPLITS[0])), None)
    if split is None:
        raise UserError(f"{NAME} has no split {args.split!r}; it has {', '.join(SPLITS)}")
    options = {} if args.clips is None else {"num_streams": args.clips}
    world = minirvos_streams(split, args.seed or 0, **options)
    return world if args.max_videos is None else world.first(args.max_videos)


def _ovo(args: argparse.Namespace) -> int:
    """OVO-Bench by streaming; resumable by query."""
    benchmark = answers.open_asked(args)
    if not isinstance(benchmark, OVOBench):
        raise AssertionError(f"{args.benchmark} is no OVO-Bench")
    if args.max_videos is not None:
        raise UserError("--max-videos: OVO-Bench is run as a whole; leave that out")
    scorer = QA_BENCHMARKS[args.benchmark].scorer(args.protocol)
    shard = current_shard(args.launcher)
    quiet = args.quiet or shard.rank > 0
    folder = model_folder(args.model)
    out = args.out or Path("outputs/eval") / f"{folder.resolve().name}-{args.benchmark}"
    per_stream = args.per_stream or PER_STREAM

    def first() -> None:
        if args.fresh:
            clear(out)
        answers.forget_finished(out)

    with shard.beating(out / RANKS, first=first) as mine:
        device = device_of(args)
        dtype = dtype_of(args, device)
        overrides = _overrides(args)
        pipeline = load_model(folder, device, dtype).pipeline(**overrides)
        key = stream_key(benchmark, pipeline, args.wording, per_stream)
        key |= model_key(folder, device, dtype, overrides)
        ledger, costs = FolderLedger(out / "run", key), FolderLedger(out / "costs", key)
        jobs = len(plan_streams(benchmark, per_stream))
        with progress_bar("streaming", -(-jobs // mine.world), quiet=quiet) as advance:
            problems = run_streams(
                pipeline,
                benchmark,
                ledger,
                costs,
                wording=args.wording,
                per_stream=per_stream,
                shard=mine,
                progress=lambda done, total: advance(),
            )
        everyone = answers.gather_problems(mine, out, key, problems)
        if everyone is None:
            return 0
    logs = heard_logs(benchmark, ledger)
    answers.say_problems(everyone, len(logs), benchmark.name, quiet=quiet)
    write_event_log(out / EVENTS, benchmark, ledger)
    rules = fitting_rules(logs)
    given = answers_from_events(benchmark, logs, **rules)
    write_answers(out / answers.ANSWERS, given)
    speed = speed_of(costs)
    if speed is not None:
        write_json(out / SPEED, speed)
    timing = {task: found.figures() for task, found in forward_timing(benchmark, logs).items()}
    extra = {"way": key, "rules": rules, "timing": timing}
    return answers.report(args, score_answers(benchmark, given, scorer), str(args.model), out, extra)


def _overrides(args: argparse.Namespace) -> dict[str, Any]:
    """Keys of the pipeline that the options replace."""
    keys: dict[str, Any] = {} if args.fps is None else {"fps": args.fps}
    return {**keys, "speak_at_end": True} if args.force_choices else keys
