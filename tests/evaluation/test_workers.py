"""Items in parallel processes: whatever a worker does, the other items are finished and the call returns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refstream.errors import UserError, VideoError
from refstream.evaluation.ledger import FolderLedger
from refstream.evaluation.predictions.base import Prediction
from refstream.evaluation.protocols.families import Families
from refstream.evaluation.readers.minirvos import MiniRVOSBenchmark
from refstream.evaluation.score import score, usual_jobs
from refstream.evaluation.shards import Shard
from refstream.evaluation.workers import FailedItems, run_items


class Work:
    """Does what the item's name says, and leaves a trace of each attempt."""

    def __init__(self, traces: Path) -> None:
        self.traces = traces

    def __call__(self, item: str) -> tuple[str, int]:
        attempts = len(list(self.traces.glob(f"{item}.*"))) + 1
        (self.traces / f"{item}.{attempts}").touch()
        kind = item.partition("-")[0]
        if kind == "kill" or (kind == "kill_once" and attempts == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "exit":
            os._exit(3)
        if kind == "sleep" or (kind == "sleep_once" and attempts == 1):
            time.sleep(120)
        if kind == "bad":
            raise VideoError("clip.mp4", "is no video", 3)
        if kind == "bug":
            raise ZeroDivisionError("seven by nothing")
        return item, os.getpid()


class Unpicklable(Work):
    def __reduce__(self):
        raise TypeError("has an open file")


class Unloadable(Work):
    """Can be sent, but not received."""

    def __reduce__(self):
        return os.rmdir, (str(self.traces / "nowhere"),)


def attempts(folder: Path, item: str) -> int:
    return len(list(folder.glob(f"{item}.*")))


def test_all_is_done_in_other_processes(tmp_path):
    done = {}
    items = [f"fine-{number}" for number in range(30)]
    run_items(Work(tmp_path), items, done.__setitem__, jobs=2)
    assert {item: name for item, (name, _) in done.items()} == {item: item for item in items}
    processes = {process for _, process in done.values()}
    assert os.getpid() not in processes
    assert len(processes) <= 2
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_workers_that_die_hang_or_raise_are_named_with_their_item(tmp_path):
    done = []
    items = [
        "kill-a",
        "fine-1",
        "sleep-b",
        "bad-c",
        "fine-2",
        "bug-d",
        "exit-e",
        "kill_once-f",
        "sleep_once-g",
    ]
    began = time.monotonic()
    with pytest.raises(FailedItems) as caught:
        run_items(
            Work(tmp_path), items, lambda item, _: done.append(item), jobs=2, timeout_s=1, what="trying"
        )
    assert time.monotonic() - began < 40
    assert sorted(done) == ["fine-1", "fine-2", "kill_once-f", "sleep_once-g"]
    text = str(caught.value)
    assert text.startswith("trying: 5 of 9 items failed, the others are finished: kill-a: its process ")
    reasons = {failure.item: failure.reason for failure in caught.value.failures}
    assert list(reasons) == ["kill-a", "sleep-b", "bad-c", "bug-d", "exit-e"]
    assert "died (SIGKILL, as the system does when memory runs out); tried 2 times" in reasons["kill-a"]
    assert "exit code 3" in reasons["exit-e"]
    assert "took longer than 1 s" in reasons["sleep-b"]
    assert reasons["bad-c"] == "clip.mp4, frame 3: is no video"
    assert "ZeroDivisionError: seven by nothing\nTraceback" in reasons["bug-d"]
    assert 'raise ZeroDivisionError("seven by nothing")' in reasons["bug-d"]
    for item, times in (("kill-a", 2), ("bug-d", 2), ("bad-c", 1), ("sleep-b", 2), ("kill_once-f", 2)):
        assert attempts(tmp_path, item) == times, item


def test_a_script_that_starts_processes_when_it_is_read_does_not_hang(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from refstream.evaluation.workers import run_items\n"
        "run_items(str.upper, ['a'], print, jobs=1, timeout_s=60)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=100, cwd=tmp_path
    )
    assert done.returncode != 0
    assert "if __name__ == '__main__'" in done.stderr


def test_work_that_cannot_travel_is_refused(tmp_path):
    with pytest.raises(UserError, match="has an open file"):
        run_items(Unpicklable(tmp_path), ["fine-a"], lambda *_: None, jobs=1)
    with pytest.raises(FailedItems, match="fine-a: the worker processes were lost"):
        run_items(Unloadable(tmp_path), ["fine-a"], lambda *_: None, jobs=1)
    with pytest.raises(UserError, match="0 or more jobs"):
        run_items(Work(tmp_path), ["fine-a"], lambda *_: None, jobs=-1)


def test_in_this_process(tmp_path):
    done = []
    with pytest.raises(FailedItems, match=r"1 of 3 items failed, .*: bad-a: clip.mp4, frame 3: is no video"):
        run_items(Work(tmp_path), ["fine-1", "bad-a", "fine-2"], lambda item, _: done.append(item), jobs=0)
    assert done == ["fine-1", "fine-2"]
    with pytest.raises(ZeroDivisionError):
        run_items(Work(tmp_path), ["bug-a"], lambda *_: None, jobs=0)


class Shifted:
    """The truth, moved by a number of pixels that depends on the expression."""

    fingerprint = "shifted"

    def __init__(self, benchmark: MiniRVOSBenchmark, traces: Path) -> None:
        self.benchmark, self.traces = benchmark, traces

    def read(self, video, expression, size):
        with open(self.traces / "read.txt", "a") as file:
            file.write(f"{video.id}/{expression.id}\n")
        masks = np.roll(self.benchmark.truth(video, expression), len(expression.text) % 5, axis=2)
        return Prediction(masks)


def written(ledger: FolderLedger) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (ledger.folder / "items").iterdir()}


def test_scores_do_not_depend_on_the_number_of_processes(tmp_path):
    benchmark = MiniRVOSBenchmark(num_clips=7, num_frames=4, size=48)
    benchmark.videos[3] = replace(
        benchmark.videos[3], frames=benchmark.videos[3].frames * 2, scored=(0, 1, 2, 3)
    )
    predictions = Shifted(benchmark, tmp_path)
    ledgers, scores, steps = {}, {}, []
    for jobs in (0, 1, 3):
        ledgers[jobs] = FolderLedger(tmp_path / str(jobs))
        scores[jobs] = score(
            benchmark,
            predictions,
            Families(),
            ledgers[jobs],
            jobs=jobs,
            progress=lambda *step: steps.append(step),
        )
    assert scores[0] == scores[1] == scores[3]
    assert written(ledgers[0]) == written(ledgers[1]) == written(ledgers[3])
    assert 0 < np.mean([one.values["J"] for one in scores[0]]) < 1
    assert steps == [(number, 7) for number in range(1, 8)] * 3

    # What is finished is not scored again.
    (tmp_path / "read.txt").unlink()
    lost = benchmark.videos[2]
    ledgers[3].path(lost.id).unlink()
    assert score(benchmark, predictions, Families(), ledgers[3], jobs=2) == scores[0]
    read = (tmp_path / "read.txt").read_text().splitlines()
    assert sorted(read) == sorted(f"{lost.id}/{expression.id}" for expression in lost.expressions)


def test_shares_of_several_processes_make_the_whole(tmp_path):
    benchmark = MiniRVOSBenchmark(num_clips=5, num_frames=2, size=48)
    predictions = Shifted(benchmark, tmp_path)
    ledger = FolderLedger(tmp_path / "shared")
    for rank in range(3):
        found = score(benchmark, predictions, Families(), ledger, shard=Shard(rank, 3))
    assert found == score(benchmark, predictions, Families())


def test_processes_are_started_for_much_work_only():
    assert usual_jobs(MiniRVOSBenchmark(num_clips=5, num_frames=2)) == 0
    large = MiniRVOSBenchmark(num_clips=2, num_frames=2)
    large.videos = [replace(video, frames=("0",) * 5000) for video in large.videos]
    assert usual_jobs(large) >= 1
    assert usual_jobs(large, Shard(0, 1000)) == 0
