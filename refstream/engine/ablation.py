"""Ablations: arms forked from one warm start, trained side by side, evaluated alike, one table.

An ablation is a config file:

    arms = dict(NAME=dict(config="path of a training config", overrides={...}, seeds=[0, 1, 2]), ...)
    rows = [dict(name="...", arm=NAME, pipeline={...}, floors=False, match=None), ...]
    benchmark = dict(name="minirvos", num_clips=100, ...)
    parallel = 2
    columns = ["recall", ...]            # of the table besides the headline; all by default
    stability = ["jitter_error", ...]    # of ``Stability``, after them; no floor has any

An arm with ``folder`` instead of ``config`` is a model that is there already. One with ``after=NAME`` is
trained when that arm is done, so that its overrides may take weights from ``WORK_DIR/NAME_SEED/export``. A
row evaluates each seed of its arm with keys of the pipeline replaced; ``match`` names an earlier row whose
rate of MLLM calls this row's gate (``EvenGate``, ``RandomGate``) shall have. Whatever has been trained or
evaluated under ``work_dir`` is not done again.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from refstream.engine.checkpoint_files import checkpoint_folders
from refstream.engine.sources import origin
from refstream.evaluation.benchmarks import run_benchmark
from refstream.evaluation.metrics.stability import Stability
from refstream.evaluation.provenance import provenance
from refstream.evaluation.readers.minirvos_streams import minirvos_streams
from refstream.evaluation.stream_evaluation import StreamEvaluation
from refstream.evaluation.stream_tasks import NAME as STREAMS
from refstream.files import write_json
from refstream.models.loading import load

logger = logging.getLogger(__name__)
RATE_KEYS = {"EvenGate": "rate", "RandomGate": "probability"}
STABILITY = {field.name for field in fields(Stability)}
KEYS = {"arms", "rows", "benchmark", "parallel", "work_dir", "name", "columns", "stability"}


def run_ablation(path: str | Path, *, out: str | Path | None = None) -> dict[str, Any]:
    """Train the arms, evaluate the rows, write the table.

    Args:
        path: Config file as above.
        out: Where the result goes; default ``docs/results/NAME.json``.

    Returns:
        What was written.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: For an unknown key, arm or row.
    """
    plan = read_plan(path)
    work_dir = Path(plan["work_dir"])
    require_models(plan)
    workers = Workers(plan.get("parallel", 2))
    for arms in arm_waves(plan["arms"]):
        jobs = [
            (str(arm["config"]), dict(arm.get("overrides", {})), seed, str(work_dir / f"{name}_{seed}"))
            for name, arm in arms.items()
            if "config" in arm
            for seed in arm.get("seeds", [0])
        ]
        wanted = [job for job in jobs if not (Path(job[3]) / "export" / "config.json").is_file()]
        workers.run(train_arm, wanted)
    results: dict[str, list[dict[str, Any]]] = {}
    for wave in waves(plan["rows"]):
        jobs_of = {row["name"]: _evaluations(plan, row, results, work_dir) for row in wave}
        missing = [job for jobs in jobs_of.values() for job in jobs if not Path(job[4]).is_file()]
        workers.run(evaluate_arm, missing)
        for name, done in jobs_of.items():
            results[name] = [json.loads(Path(job[4]).read_text(encoding="utf-8")) for job in done]
    content = table(plan, results, work_dir)
    write_json(Path(out or Path("docs/results") / f"{plan['name']}.json"), content)
    return content


def read_plan(path: str | Path) -> dict[str, Any]:
    """An ablation's config file, checked; see ``run_ablation`` for the errors."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no ablation at {path}")
    written = Config.fromfile(str(path)).to_dict()
    plan = {key: value for key, value in written.items() if not key.startswith("_")}
    check(plan)
    return plan


def require_models(plan: Mapping[str, Any]) -> None:
    """Refuse to begin without the models that are said to be there already.

    Those under the plan's own ``work_dir`` are made by its arms.

    Raises:
        FileNotFoundError: Naming all that are missing.
    """
    folders = {str(arm["folder"]) for arm in plan["arms"].values() if "folder" in arm}
    given = sorted(one for one in folders if not Path(one).is_relative_to(plan["work_dir"]))
    missing = [f"{one} ({origin(one)})" for one in given if not (Path(one) / "config.json").is_file()]
    if missing:
        raise FileNotFoundError("models of the ablation are missing: " + "; ".join(missing))


def row_models(
    plan: Mapping[str, Any], names: Sequence[str], seed_number: int = 0
) -> dict[str, tuple[str, dict[str, Any]]]:
    """The model behind each of some rows.

    Args:
        plan: Of ``read_plan``.
        names: Of rows without ``match``, whose gates need no other row.
        seed_number: Which of the arm's seeds, from 0.

    Returns:
        Name -> (folder of the model, keys of the pipeline that the row replaces).

    Raises:
        ValueError: For a name of no such row, or an arm with fewer seeds.
    """
    rows = {row["name"]: row for row in plan["rows"] if not row.get("match")}
    found = {}
    for name in names:
        if name not in rows:
            raise ValueError(f"no row is named {name!r} and matches no other; there are {list(rows)}")
        jobs = _evaluations(plan, rows[name], {}, Path(plan["work_dir"]))
        if not 0 <= seed_number < len(jobs):
            raise ValueError(f"row {name!r} has {len(jobs)} seeds, there is no number {seed_number}")
        found[name] = jobs[seed_number][0], jobs[seed_number][1]
    return found


def check(plan: Mapping[str, Any]) -> None:
    """Refuse what cannot work before anything runs; raises ValueError."""
    unknown = set(plan) - KEYS
    missing = {"arms", "rows", "benchmark", "work_dir", "name"} - set(plan)
    if unknown or missing:
        raise ValueError(f"an ablation has the keys {sorted(KEYS)}; unknown {unknown}, missing {missing}")
    strange = set(plan.get("stability", ())) - STABILITY
    if strange:
        raise ValueError(f"stability has no figures {sorted(strange)}; there are {sorted(STABILITY)}")
    arm_waves(plan["arms"])
    seen: set[str] = set()
    for row in plan["rows"]:
        if row["arm"] not in plan["arms"]:
            raise ValueError(f"row {row['name']!r} names arm {row['arm']!r}; there are {list(plan['arms'])}")
        if row.get("match") not in (None, *seen):
            raise ValueError(f"row {row['name']!r} matches {row['match']!r}, which is no earlier row")
        if row["name"] in seen:
            raise ValueError(f"two rows are named {row['name']!r}")
        seen.add(row["name"])


class Workers:
    """Runs jobs side by side, each in a fresh process with one thread."""

    def __init__(self, parallel: int) -> None:
        self.parallel = parallel

    def run(self, function: Callable[..., None], jobs: Sequence[tuple[Any, ...]]) -> None:
        """Run all; the first failure is raised after the others have ended."""
        if not jobs:
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.parallel, context, _one_thread, max_tasks_per_child=1) as pool:
            done = [pool.submit(function, *job) for job in jobs]
        for future in done:
            future.result()


def _one_thread() -> None:
    torch.set_num_threads(1)


def train_arm(config: str, overrides: dict[str, Any], seed: int, folder: str) -> None:
    """Train one seed of an arm; its data and its random numbers both take the seed."""
    from refstream.engine.train import train

    keys = {**overrides, "randomness.seed": seed}
    train(config, keys, work_dir=folder)


def evaluate_arm(
    folder: str, pipeline: dict[str, Any], benchmark: dict[str, Any], floors: bool, file: str
) -> None:
    """Evaluate one model with keys of its pipeline replaced."""
    model = load(folder)
    keys = dict(benchmark)
    name = keys.pop("name")
    if name == STREAMS:
        world = minirvos_streams(keys.pop("split"), **keys)
        result = StreamEvaluation(model.pipeline(**pipeline), world).result(folder, floors=floors)
    else:
        result = run_benchmark(name, model, floors=floors, pipeline=pipeline, **keys)
    result.save(file)


def arm_waves(arms: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Mapping[str, Any]]]:
    """Arms in groups that can be trained side by side, each after the groups before it.

    Raises:
        ValueError: If an arm comes after one that does not exist, or after itself.
    """
    left, done, found = dict(arms), set[str](), list[dict[str, Mapping[str, Any]]]()
    while left:
        ready = {name: arm for name, arm in left.items() if arm.get("after") in (None, *done)}
        if not ready:
            raise ValueError(
                f"arms {sorted(left)} come after arms that never come first; there are {list(arms)}"
            )
        found.append(ready)
        done |= set(ready)
        left = {name: arm for name, arm in left.items() if name not in ready}
    return found


def waves(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Rows in groups that can run side by side: a row that matches another comes after it."""
    first = [row for row in rows if not row.get("match")]
    return [first, [row for row in rows if row.get("match")]]


def _evaluations(
    plan: Mapping[str, Any], row: Mapping[str, Any], results: Mapping[str, Any], work_dir: Path
) -> list[tuple[Any, ...]]:
    """One job per seed of the row's arm."""
    arm = plan["arms"][row["arm"]]
    jobs = []
    for number, seed in enumerate(arm.get("seeds", [0])):
        folder = arm["folder"] if "folder" in arm else str(work_dir / f"{row['arm']}_{seed}" / "export")
        pipeline = dict(row.get("pipeline", {}))
        if row.get("match"):
            matched = results[row["match"]]
            pipeline["gate"] = matched_gate(
                dict(pipeline["gate"]),
                matched[min(number, len(matched) - 1)]["speed"]["mllm_calls_per_frame"],
                plan["benchmark"]["num_frames"],
            )
        file = work_dir / "rows" / f"{row['name'].replace(' ', '_')}_{seed}.json"
        jobs.append((folder, pipeline, dict(plan["benchmark"]), bool(row.get("floors")), str(file)))
    return jobs


def matched_gate(gate: dict[str, Any], calls_per_frame: float, num_frames: int) -> dict[str, Any]:
    """The gate with the rate that gives this many calls a frame, the first frame's call included."""
    rate = (calls_per_frame * num_frames - 1) / max(1, num_frames - 1)
    return {**gate, RATE_KEYS[gate["type"]]: min(1.0, max(0.0, rate))}


def table(
    plan: Mapping[str, Any], results: Mapping[str, list[dict[str, Any]]], work_dir: Path
) -> dict[str, Any]:
    """The published form: one row per row of the plan, floors and ceiling of those that have them."""
    seeds = sorted({seed for arm in plan["arms"].values() for seed in arm.get("seeds", [0])})
    headline = next(iter(next(iter(results.values()))[0]["headline"]))
    columns, steady = plan.get("columns"), plan.get("stability", ())
    rows: list[dict[str, Any]] = []
    for row in plan["rows"]:
        done = results[row["name"]]
        flat = [_flat(result, columns, steady, headline) for result in done]
        rows.append({"run": row["name"], **summarise(flat, headline)})
        if row.get("floors"):
            for number, floor in enumerate(done[0]["rows"][1:], start=1):
                none = dict.fromkeys(steady)
                cells = [{**_cells(r["rows"][number], columns, headline), **none} for r in done]
                rows.append({"run": f"{row['name']}: {floor['run']}", **summarise(cells, headline)})
    measured = [result["commit"] for done in results.values() for result in done]
    return {
        **provenance(seeds),
        "commit": ", ".join(dict.fromkeys(measured)),  # rows of an earlier run keep the code that ran them
        "command": " ".join(["python", *sys.argv]),
        "rows": rows,
        "benchmark": dict(next(iter(results.values()))[0]["settings"]),
        "training": _training(plan, work_dir),
        "learned": {
            row["name"]: [result["learned"] for result in results[row["name"]]]
            for row in plan["rows"]
            if row.get("floors")
        },
    }


def _cells(row: Mapping[str, Any], columns: Sequence[str] | None, headline: str) -> dict[str, Any]:
    wanted = [key for key in row if key not in ("run", "J", "F")] if columns is None else [headline, *columns]
    return {key: row.get(key) for key in wanted}


def _flat(
    result: Mapping[str, Any], columns: Sequence[str] | None, steady: Sequence[str], headline: str
) -> dict[str, Any]:
    cells, speed = _cells(result["rows"][0], columns, headline), result["speed"]
    figures = result.get("stability") or {}
    cells |= {name: figures.get(name) for name in steady}
    if speed is None:
        return cells
    return {**cells, "calls a frame": speed["mllm_calls_per_frame"], "FPS": speed["fps"]}


def summarise(cells: Sequence[Mapping[str, Any]], headline: str = "J&F") -> dict[str, Any]:
    """Means over seeds, None where one has none; of the headline also the standard deviation, how many seeds
    there were, and what each of them gave."""
    means = {
        key: None if any(one[key] is None for one in cells) else statistics.fmean(one[key] for one in cells)
        for key in cells[0]
    }
    spread = statistics.stdev(one[headline] for one in cells) if len(cells) > 1 else None
    each = [one[headline] for one in cells]
    return {headline: means.pop(headline), "spread": spread, "seeds": len(cells), "by seed": each, **means}


def _training(plan: Mapping[str, Any], work_dir: Path) -> dict[str, Any]:
    """Iterations and minutes of each trained arm, from its last checkpoint and its log."""
    found: dict[str, Any] = {}
    for name, arm in plan["arms"].items():
        for seed in arm.get("seeds", [0]) if "config" in arm else ():
            log = work_dir / f"{name}_{seed}" / "log.jsonl"
            lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
            last = [line for line in lines if "seconds" in line][-1]
            done = max(int(one.name.removeprefix("iter_")) for one in checkpoint_folders(log.parent))
            found[f"{name}_{seed}"] = {"iterations": done, "minutes": round(last["seconds"] / 60, 1)}
    return found
