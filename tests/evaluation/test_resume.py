"""An evaluation that is killed at random and started again: the same files, and nothing computed twice.

The processes and the kills (SIGKILL) are real; so is the model, but for its random weights. Each process
appends what it begins to compute to a trace.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from refstream.cli import main
from refstream.data import rle
from refstream.evaluation.benchmarks import load_benchmark
from refstream.evaluation.ledger import FolderLedger
from refstream.files import write_json

ROOT = Path(__file__).resolve().parents[2]
STARTER = """\
import os, sys
import torch
torch.set_num_threads(1)
from refstream.cli import evaluate, main
from refstream.evaluation import run, score
from refstream.testing.small import small_model

def small(*_):
    torch.manual_seed(0)
    return small_model({"type": "StreamingRVOS"})

def traced(function, name):
    def call(*args):
        os.write(trace, f"{name(*args)}\\n".encode())
        return function(*args)
    return call

evaluate.load_model = small
run._run_job = traced(run._run_job, lambda pipeline, benchmark, job, *_: f"run {job.name}")
score.score_record = traced(
    score.score_record, lambda benchmark, video, predictions, protocol: f"score {protocol.name} {video.id}"
)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        folder, path, *words = line.split()
        os.chdir(folder)
        trace = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(trace, b"begin\\n")
        sys.argv = ["refstream", *words]
        code = main(words)
        sys.stdout.flush()
        os._exit(code)
    print("pid", pid, flush=True)
    print("code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Starter:
    """A process that has loaded all it needs and forks runs of a command, one at a time."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTER],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self, word: str) -> int:
        """The number after a word of its output."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(f"{word} "):
                return int(line.split()[1])
        raise AssertionError("the process that starts runs has ended; see its stderr")

    def begin(self, folder: Path, trace: Path) -> int:
        """Start a run; its process."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{folder} {trace} {self.words} --out out --quiet\n")
        self.process.stdin.flush()
        return self.answer("pid")

    def finish(self, folder: Path, trace: Path) -> None:
        """A run that is left in peace."""
        self.begin(folder, trace)
        assert self.answer("code") == 0

    def kill(self, folder: Path, trace: Path, lines: int, delay: float) -> None:
        """A run that is killed once the trace is so long, and a moment later."""
        pid = self.begin(folder, trace)
        limit = time.monotonic() + 300
        while not trace.exists() or trace.read_bytes().count(b"\n") < lines:
            assert time.monotonic() < limit, "the run does not get on"
            time.sleep(0.001)
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        assert self.answer("code") == -signal.SIGKILL, "the run was over before it was killed"

    def close(self) -> None:
        self.process.communicate(timeout=60)


def results(out: Path) -> dict[str, bytes]:
    """All files but times and what kills left behind."""
    files = (path for path in out.rglob("*") if path.is_file() and not path.name.startswith("."))
    named = {path.relative_to(out).as_posix(): path for path in files}
    timed = ("speed.json", "report.html")
    return {n: p.read_bytes() for n, p in named.items() if n not in timed and "costs/items" not in n}


def segments(trace: Path) -> list[list[str]]:
    """What each process began, in order."""
    parts: list[list[str]] = []
    for line in trace.read_text().splitlines():
        if line == "begin":
            parts.append([])
        else:
            parts[-1].append(line)
    return parts


def check_kills(folder: Path, words: str, kills: int) -> None:
    """Kill a command so often at random, let it end, and compare it with an undisturbed one."""
    calm, killed = folder / "calm", folder / "killed"
    for one in (calm, killed):
        one.mkdir()
        (one / "pretrained").symlink_to(ROOT / "pretrained")
        (one / "data").symlink_to(folder / "data")
    starter = Starter(words)
    starter.finish(calm, folder / "calm.txt")
    (expected,) = segments(folder / "calm.txt")
    assert len(set(expected)) == len(expected)

    rng = random.Random(kills)
    trace = folder / "killed.txt"
    for kill, step in enumerate(sorted(rng.sample(range(2, len(expected)), kills))):
        # So many starts of processes, items begun, and items begun twice.
        starter.kill(killed, trace, step + 2 * kill + 1, rng.uniform(0, 0.02))
    starter.finish(killed, trace)
    starter.close()

    assert results(killed / "out") == results(calm / "out")
    parts = segments(trace)
    assert len(parts) == kills + 1
    begun: list[str] = []
    for part in parts:
        # Only what the process before was at when it was killed may be begun again.
        again = set(begun) & set(part)
        assert again <= set(begun[-1:]), again
        begun += part
    assert set(begun) == set(expected)
    assert len(begun) <= len(expected) + kills


def eval_words(clips: int) -> str:
    return f"eval pretrained/tiny --clips {clips} --frames 2 --device cpu --per-stream 2 --jobs 0"


def test_killed_twice(tmp_path):
    check_kills(tmp_path, eval_words(4), kills=2)


@pytest.mark.slow
def test_killed_ten_times_in_a_run_of_200_items(tmp_path):
    check_kills(tmp_path, eval_words(50), kills=10)


@pytest.mark.slow
def test_scoring_killed_ten_times(tmp_path):
    data = tmp_path / "data"
    words = ["data", "minirvos", "--layout", "mevis", "--out", str(data / "mevis"), "--split", "val"]
    assert main([*words, "--clips", "40", "--frames", "6", "--size", "64", "--quiet"]) == 0
    benchmark = load_benchmark("mevis", root=data / "mevis")
    masks = {
        video.id: {
            one.id: {
                "prediction_masks": [rle.encode(mask) for mask in np.roll(benchmark.truth(video, one), 3, 2)]
            }
            for one in video.expressions
        }
        for video in benchmark.videos
    }
    write_json(data / "results.json", masks)
    check_kills(tmp_path, "score data/results.json --benchmark mevis --data data/mevis --jobs 0", kills=10)


def test_what_a_power_cut_tore_is_made_again(tmp_path, caplog):
    ledger = FolderLedger(tmp_path, {"model": 1})
    for item in "abc":
        ledger.write(item, {"item": item, "value": [1, 2]})
    ledger.path("a").write_bytes(b"")
    ledger.path("b").write_bytes(ledger.path("b").read_bytes()[:9])
    assert FolderLedger(tmp_path, {"model": 1}).done() == {"c"}
    assert caplog.text.count("is incomplete, as after a power cut") == 2
