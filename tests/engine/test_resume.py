"""The gate: a run killed in the middle and resumed is the undisturbed run, to the last bit.

Real processes, really killed; loader workers, dropout, accumulation over two micro-batches.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from refstream.engine.signals import REQUEUE

ROOT = Path(__file__).resolve().parents[2]
WORKER = str(Path(__file__).with_name("resume_worker.py"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def command(options: dict[str, Any], world: int = 1, restarts: int = 0) -> list[str]:
    if world == 1:
        return [sys.executable, WORKER, json.dumps(options)]
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc_per_node={world}"]
    options = {**options, "launcher": "pytorch"}
    return [sys.executable, "-m", *torchrun, f"--max-restarts={restarts}", WORKER, json.dumps(options)]


def run(options: dict[str, Any], world: int = 1, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(options, world, restarts),
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=500,
    )


def trace(folder: Path, rank: int = 0) -> dict[int, dict[str, Any]]:
    """Iteration -> its last record; ``waited`` is about time and left out."""
    lines = [json.loads(line) for line in (folder / f"trace{rank}.jsonl").read_text().splitlines()]
    return {line["iter"]: {k: v for k, v in line.items() if k != "waited"} for line in lines}


def assert_same(a: Path, b: Path, world: int = 1) -> None:
    """Losses, learning rates, samples and generators of every iteration, and the final state of all."""
    for rank in range(world):
        assert trace(a, rank) == trace(b, rank)
        assert (a / f"final{rank}.json").read_text() == (b / f"final{rank}.json").read_text()
        x, y = (load_file(folder / f"final{rank}.safetensors") for folder in (a, b))
        assert x.keys() == y.keys()
        assert [name for name in x if not torch.equal(x[name], y[name])] == []
        assert any(name.startswith("optimizer") for name in x)


def killed_and_resumed(tmp_path: Path, world: int = 1, **options: Any) -> dict[str, Any]:
    """Run a undisturbed; run b killed in iteration 7, inside an optimizer step, resumed; compare."""
    a, b = tmp_path / "a", tmp_path / "b"
    options = {"length": 10, **options}
    whole = {"work_dir": str(a)}
    killed = {"work_dir": str(b), "stop_at": 7}
    first = run({**options, "phases": [whole, killed]}, world)
    assert first.returncode == (-signal.SIGKILL if world == 1 else 1), first.stderr
    assert not (b / "final0.json").exists()
    then = run({**options, "phases": [{"work_dir": str(b), "resume": True}]}, world)
    assert then.returncode == 0, then.stderr
    assert json.loads((b / "resumed0.json").read_text())["found"] == "iter_00000004"
    assert_same(a, b, world)
    record = trace(a)
    assert len({line["rng"] for line in record.values()}) == len(record), "dropout drew nothing"
    return record


def looks(record: dict[int, dict[str, Any]]) -> list[float]:
    """MLLM calls per frame in each iteration."""
    return [float.fromhex(record[i]["losses"]["looks_per_frame"]) for i in sorted(record)]


def test_killed_and_resumed_within_an_epoch_and_over_its_end(tmp_path: Path) -> None:
    """Samples 0-23 of a dataset of 10: killed at 14, resumed at 8, over the ends of two epochs."""
    record = killed_and_resumed(tmp_path)
    assert [name.split(":")[0] for i in sorted(record) for name in record[i]["samples"]] == [
        str(draw) for draw in range(24)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "stage2"])
def test_killed_and_resumed_with(tmp_path: Path, kind: str) -> None:
    record = killed_and_resumed(tmp_path, kind=kind)
    if kind == "stage2":
        assert len(set(looks(record))) > 1, "the gate never branched"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stage1", "stage2"])
def test_killed_and_resumed_on_two_ranks(tmp_path: Path, kind: str) -> None:
    record = killed_and_resumed(tmp_path, world=2, kind=kind)
    other = trace(tmp_path / "b", 1)
    if kind == "stage2":
        assert looks(record) != looks(other), "the gate branched the same on both ranks"
    draws = [name.split(":")[0] for i in sorted(record) for t in (record, other) for name in t[i]["samples"]]
    assert sorted(map(int, draws)) == list(range(48))


@pytest.mark.slow
def test_torchrun_starts_a_killed_rank_anew(tmp_path: Path) -> None:
    """Worker and its neighbours are started once more, and end as if nothing had been."""
    a, b = tmp_path / "a", tmp_path / "b"
    assert run({"phases": [{"work_dir": str(a)}]}, 2).returncode == 0
    phase = {"work_dir": str(b), "stop_at": 7, "resume": True}
    done = run({"phases": [phase]}, 2, restarts=1)
    assert done.returncode == 0, done.stderr
    assert_same(a, b, 2)


@pytest.mark.slow
def test_told_to_stop_ten_times_at_random(tmp_path: Path) -> None:
    """SIGTERM and SIGUSR1 from outside, at random times: code 85, soon, and always the same end."""
    a, b = tmp_path / "a", tmp_path / "b"
    assert run({"iters": 80, "interval": 1000, "phases": [{"work_dir": str(a)}]}).returncode == 0
    random.seed(0)
    seconds, options = [], {"iters": 80, "interval": 1000, "pause": 0.05}
    phase = {"work_dir": str(b), "resume": True}
    for turn in range(10):
        before = len(trace(b)) if turn else 0
        process = subprocess.Popen(command({**options, "phases": [phase]}), cwd=ROOT, env=ENVIRONMENT)
        while not (b / "trace0.jsonl").exists() or len(trace(b)) <= before:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(random.choice([signal.SIGTERM, signal.SIGUSR1]))
        start = time.perf_counter()
        assert process.wait(timeout=60) == REQUEUE
        seconds.append(time.perf_counter() - start)
    assert run({**options, "phases": [phase]}).returncode == 0
    assert_same(a, b)
    sys.stdout.write(f"from signal to exit: {[round(s, 2) for s in seconds]} s\n")
    assert max(seconds) < 15


@pytest.mark.slow
def test_told_to_stop_on_two_ranks(tmp_path: Path) -> None:
    """One rank is told, both save and leave."""
    a, b = tmp_path / "a", tmp_path / "b"
    assert run({"interval": 1000, "phases": [{"work_dir": str(a)}]}, 2).returncode == 0
    phase = {"work_dir": str(b), "stop_at": 5, "how": "SIGUSR1"}
    told = run({"interval": 1000, "phases": [phase]}, 2)
    assert told.returncode == 1
    assert told.stderr.count(f"exitcode  : {REQUEUE}") == 2, told.stderr
    then = run({"interval": 1000, "phases": [{"work_dir": str(b), "resume": True}]}, 2)
    assert then.returncode == 0, then.stderr
    assert json.loads((b / "resumed1.json").read_text())["found"] == "iter_00000006"
    assert_same(a, b, 2)
