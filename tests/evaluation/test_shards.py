"""What each of several processes takes, and how they notice that one of them is gone."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from refstream.errors import UserError
from refstream.evaluation.heartbeat import LostProcess
from refstream.evaluation.ledger import FolderLedger, MemoryLedger
from refstream.evaluation.shards import Shard, current_shard

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS")
MPI = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE")
QUICK = {"silent_s": 1.0, "start_s": 3.0}


@pytest.fixture
def environment(monkeypatch):
    """Sets variables in an environment without any launcher's."""
    for name in (*NAMES, *MPI):
        monkeypatch.delenv(name, raising=False)

    def put(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


def test_every_job_is_taken_once_and_no_share_is_much_dearer():
    costs = [1, 50, 3, 3, 20, 7, 7, 7, 9, 30, 2, 11]
    for world in (1, 2, 3, 5, 20):
        shares = [Shard(rank, world).take(range(len(costs)), costs.__getitem__) for rank in range(world)]
        assert sorted(job for share in shares for job in share) == list(range(len(costs)))
        assert all(share == sorted(share) for share in shares)
        # Graham's bound for the longest job first: at most 4/3 of what is possible.
        ideal = max(sum(costs) / world, max(costs))
        assert max(sum(costs[job] for job in share) for share in shares) <= 4 / 3 * ideal


@pytest.mark.parametrize(
    ("launcher", "values", "expected"),
    [
        ("none", {}, Shard()),
        ("none", {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, Shard(1, 4, 1)),
        ("pytorch", {"RANK": "3", "WORLD_SIZE": "4"}, Shard(3, 4)),
        ("none", {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}, Shard(2, 3)),
        ("mpi", {"PMI_RANK": "0", "PMI_SIZE": "2"}, Shard(0, 2)),
        ("slurm", {"SLURM_PROCID": "5", "SLURM_NTASKS": "8"}, Shard(5, 8)),
        # the shell of an allocation for eight tasks is alone, whatever SLURM_NTASKS says
        ("none", {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Shard()),
        ("none", {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "8"}, Shard(5, 8)),
    ],
)
def test_launchers(environment, launcher, values, expected):
    environment(**values)
    assert current_shard(launcher) == expected


def test_a_launcher_that_said_nothing_or_nonsense_is_refused(environment):
    with pytest.raises(UserError, match="SLURM_PROCID and SLURM_NTASKS"):
        current_shard("slurm")
    environment(RANK="4", WORLD_SIZE="4")
    with pytest.raises(UserError, match="RANK='4', WORLD_SIZE='4'"):
        current_shard("pytorch")
    environment(RANK="first")
    with pytest.raises(UserError, match="RANK='first'"):
        current_shard()


def test_one_process_leaves_no_trace(tmp_path):
    with Shard().beating(tmp_path / "ranks") as shard:
        ledger = MemoryLedger()
        with shard.working_on("a"):
            ledger.write("a", {})
        shard.wait(ledger, {"a"}, "running")
        with pytest.raises(LostProcess, match=r"running: 1 of 2 items are missing: b"):
            shard.wait(ledger, {"a", "b"}, "running")
    assert not (tmp_path / "ranks").exists()


def test_waiting_needs_signs_of_life():
    with pytest.raises(ValueError, match="beating"):
        Shard(0, 2).wait(MemoryLedger(), {"a"}, "running")


def other(folder: Path, item: str, then: str) -> None:
    """Rank 1 of 2, in a process of its own."""
    with Shard(1, 2).beating(folder / "ranks", **QUICK) as shard, shard.working_on(item):
        time.sleep(0.3)
        if then == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if then == "fail":
            raise OSError("no such picture")
        if then == "hang":
            time.sleep(60)
        FolderLedger(folder).write(item, {"item": item})


def start_other(folder: Path, then: str) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=other, args=(folder, "clip/3", then))
    process.start()
    return process


def test_waits_for_the_other(tmp_path):
    ledger = FolderLedger(tmp_path)
    process = start_other(tmp_path, "finish")
    with Shard(0, 2).beating(tmp_path / "ranks", **QUICK) as shard:
        ledger.write("clip/0", {"item": "clip/0"})
        shard.wait(ledger, {"clip/0", "clip/3"}, "running")
    process.join(10)
    assert process.exitcode == 0
    assert json.loads((tmp_path / "ranks" / "0.json").read_text())["state"] == "finished"


@pytest.mark.parametrize(
    ("then", "limits", "told"),
    [
        ("die", {**QUICK, "silent_s": 60}, "died while working on 'clip/3'"),
        ("fail", QUICK, "failed while working on 'clip/3' with OSError: no such picture"),
        ("hang", {**QUICK, "item_s": 1.0, "silent_s": 60}, r"hangs: \d s ago it began 'clip/3'"),
    ],
)
def test_a_lost_process_is_named_with_its_item(tmp_path, then, limits, told):
    ledger = FolderLedger(tmp_path)
    process = start_other(tmp_path, then)
    began = time.monotonic()
    ledger.write("clip/0", {"item": "clip/0"})
    told = f"(?s)running: rank 1 of 2 .*{told}.*1 of 2 items are missing: clip/3"
    with pytest.raises(LostProcess, match=told), Shard(0, 2).beating(tmp_path / "ranks", **limits) as shard:
        shard.wait(ledger, {"clip/0", "clip/3"}, "running")
    assert time.monotonic() - began < 10
    process.kill()
    process.join(10)


def write_rank(folder: Path, **changes: object) -> None:
    """A sign of life of rank 1 on another machine."""
    record = {"pid": 1, "parent": 1, "started": 0.0, "host": "elsewhere", "run": [], "state": "working"}
    record |= {"rank": 1, "message": "", "item": "clip/3", "number": 1, "beat": 1, "time": 0.0}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1.json").write_text(json.dumps(record | changes))


def test_silence_of_another_machine(tmp_path):
    """Its clock and process numbers mean nothing here: only whether the file changes."""
    ranks = tmp_path / "ranks"

    def beat() -> None:
        for number in range(4):
            time.sleep(0.4)
            write_rank(ranks, beat=number)

    thread = threading.Thread(target=beat)
    began = time.monotonic()
    with Shard(0, 2).beating(ranks, **QUICK) as shard:
        thread.start()
        with pytest.raises(LostProcess, match=r"rank 1 of 2 .*on elsewhere\) has been silent for \d s"):
            shard.wait(FolderLedger(tmp_path), {"clip/3"}, "running")
    assert 2 < time.monotonic() - began < 8
    thread.join()


@pytest.mark.parametrize("state", ["working", "failed", "finished"])
def test_what_an_earlier_run_left_is_no_sign(tmp_path, state):
    write_rank(tmp_path / "ranks", state=state)
    with (
        pytest.raises(LostProcess, match="rank 1 of 2 gave no sign of life in 1 s"),
        Shard(0, 2).beating(tmp_path / "ranks", silent_s=0.1, start_s=1.0) as shard,
    ):
        shard.wait(FolderLedger(tmp_path), {"clip/3"}, "running")


def first_then(folder: Path) -> None:
    time.sleep(0.5)
    with Shard(0, 2).beating(folder / "ranks", first=lambda: (folder / "old").unlink(), **QUICK):
        time.sleep(0.5)


def test_what_rank_0_does_first_is_done_before_the_others_go_on(tmp_path):
    (tmp_path / "old").touch()
    process = multiprocessing.get_context("fork").Process(target=first_then, args=(tmp_path,))
    process.start()
    with Shard(1, 2).beating(tmp_path / "ranks", first=lambda: pytest.fail("not mine"), **QUICK):
        assert not (tmp_path / "old").exists()
    process.join(10)
    with (
        pytest.raises(LostProcess, match="rank 0 of 2 gave no sign"),
        Shard(1, 2).beating(tmp_path / "none", first=lambda: None, start_s=0.5),
    ):
        pytest.fail("went on without rank 0")
