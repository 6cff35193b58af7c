"""Signs of life: how processes that share a run notice that one of them died or hangs.

Each writes ``<rank>.json`` into a shared folder every other second and whenever it begins an item. All that
counts is whether that file changes, by the reader's own clock: clocks of machines differ.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from refstream.errors import OutputError, UserError
from refstream.files import atomic_write_text

POLL_S = 0.5
BEAT_S = 2.0
SILENT_S = 180.0
"""Longest time without a sign of life; network file systems show a file to others up to a minute late."""
START_S = 1800.0
"""Longest time until the first sign of life: loading the model comes before it."""
ITEM_S = 4 * 3600.0
"""Longest time on one item: whoever needs more hangs."""
WORKING, FINISHED, FAILED = "working", "finished", "failed"
RUN_VARIABLES = (
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "MASTER_ADDR",
    "MASTER_PORT",
)
log = logging.getLogger(__name__)


class LostProcess(UserError):
    """Another process of the run died or hangs; what is finished is kept."""


@dataclass
class _Seen:
    """What was last seen of another process, and when, by this one's clock: clocks of machines differ."""

    record: dict[str, Any] | None
    changed: float
    began: float
    """When its present item was first seen."""
    live: bool = False
    """Whether a sign of it came since this process began: the file may be an earlier run's."""


class Heart:
    """Shows that this process lives, and says which other one does not.

    Args:
        folder: Holds ``<rank>.json`` of each process.
        rank: This process, from 0.
        world: How many there are.
        silent_s: After this time without a sign, another process counts as dead.
        start_s: The same before its first sign.
        item_s: After this time on one item, a process counts as hanging, though it lives.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        world: int,
        *,
        silent_s: float = SILENT_S,
        start_s: float = START_S,
        item_s: float = ITEM_S,
    ) -> None:
        self.folder, self.rank, self.world = folder, rank, world
        self.silent_s, self.start_s, self.item_s = silent_s, start_s, item_s
        self._run = [os.environ.get(name, "") for name in RUN_VARIABLES]
        self._state, self._message, self._item, self._number, self._beat = WORKING, "", "", 0, 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)
        now = time.monotonic()
        self._began = now
        others = [other for other in range(world) if other != rank]
        self._seen = {other: _Seen(self._read(other), now, now) for other in others}

    def __enter__(self) -> Self:
        self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        self._stop.set()
        self._thread.join()
        self._state = FINISHED if kind is None else FAILED
        self._message = "" if error is None else f"{type(error).__name__}: {error}"[:500]
        with suppress(OutputError):  # nothing may hide the error that ended this process
            self._write()

    def report(self, item: str) -> None:
        """Begin an item; "" for none."""
        self._item, self._number = item, self._number + 1
        self._write()

    def wait_for_first(self) -> None:
        """Return once rank 0 lives. Raises LostProcess if it does not within ``start_s``."""
        while True:
            lost = self._verdict(0)
            seen = self._seen[0]
            if lost is not None and (seen.record or {}).get("state") != FINISHED:
                raise LostProcess(lost)
            if seen.live:
                return
            time.sleep(POLL_S)

    def lost(self) -> str | None:
        """Names a process that died, hangs or left, with its item; None if there is no such process."""
        verdicts = (self._verdict(rank) for rank in self._seen)
        return next((verdict for verdict in verdicts if verdict is not None), None)

    def _verdict(self, rank: int) -> str | None:
        now, seen, record = time.monotonic(), self._seen[rank], self._read(rank)
        if record is not None and record != seen.record:
            if seen.record is None or record["number"] != seen.record["number"] or not seen.live:
                seen.began = now
            seen.record, seen.changed, seen.live = record, now, True
        if record is None or not (seen.live or self._is_sibling(record)):
            if now - self._began > self.start_s:
                return f"rank {rank} of {self.world} gave no sign of life in {self.start_s:.0f} s"
            return None
        seen.live = True
        who = f"rank {rank} of {self.world} (process {record['pid']} on {record['host']})"
        at = f" while working on {record['item']!r}" if record["item"] else ""
        if record["state"] == FAILED:
            return f"{who} failed{at} with {record['message']}"
        if record["state"] == FINISHED:
            return f"{who} ended before the others"
        if record["host"] == _host() and not _is_alive(record["pid"], record["started"]):
            return f"{who} died{at}"
        if now - seen.changed > self.silent_s:
            return f"{who} has been silent for {now - seen.changed:.0f} s{at}"
        if record["item"] and now - seen.began > self.item_s:
            return f"{who} hangs: {now - seen.began:.0f} s ago it began {record['item']!r}"
        return None

    def _is_sibling(self, record: Mapping[str, Any]) -> bool:
        """Whether a record is surely of this run: one launcher on one machine started both processes."""
        return bool(
            record["run"] == self._run and record["host"] == _host() and record["parent"] == os.getppid()
        )

    def _beat_on(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                self._write()
            except OutputError as error:
                log.warning("no sign of life could be given: %s", error)

    def _write(self) -> None:
        with self._lock:
            self._beat += 1
            record = {
                "rank": self.rank,
                "pid": os.getpid(),
                "parent": os.getppid(),
                "started": _started(os.getpid()),
                "host": _host(),
                "run": self._run,
                "state": self._state,
                "message": self._message,
                "item": self._item,
                "number": self._number,
                "beat": self._beat,
                "time": round(time.time(), 3),
            }
            path = self.folder / f"{self.rank}.json"
            atomic_write_text(path, json.dumps(record) + "\n", durable=False)

    def _read(self, rank: int) -> dict[str, Any] | None:
        try:
            text = (self.folder / f"{rank}.json").read_text(encoding="utf-8")
            record: dict[str, Any] = json.loads(text)
        except (OSError, ValueError):  # not there yet, or a network file system between two versions
            return None
        return record


def _host() -> str:
    """The machine, and on Linux the container: process numbers mean nothing outside of it."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> float:
    return round(float(psutil.Process(pid).create_time()), 2)


def _is_alive(pid: int, started: float) -> bool:
    """Whether the process lives, and is no later one with the same number."""
    try:
        process = psutil.Process(pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - started) < 1)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
