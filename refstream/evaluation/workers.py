"""Items in parallel processes that may be slow, crash or hang: each has a time limit and a second chance."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from typing import Any, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

from refstream.errors import UserError

R = TypeVar("R")
ITEM_TIMEOUT_S = 900.0
START_S = 120.0
"""Longest time from starting a pool to the first word of its processes, beyond an item's own limit."""
ATTEMPTS = 2
PER_WORKER = 2
"""Items handed out at a time for each process: the one in work and the next."""
MAX_LISTED = 10


@dataclass(frozen=True)
class Failure:
    """An item that did not work out.

    Attributes:
        item: Its name.
        reason: In words; with the worker's traceback if it was no ``UserError``.
    """

    item: str
    reason: str


class FailedItems(UserError):
    """Some items failed; all others are finished.

    Attributes:
        failures: One per item.
    """

    def __init__(self, failures: Sequence[Failure], total: int, what: str) -> None:
        listed = "; ".join(f"{one.item}: {one.reason}" for one in failures[:MAX_LISTED])
        more = len(failures) - MAX_LISTED
        super().__init__(
            f"{what}: {len(failures)} of {total} items failed, the others are finished: {listed}"
            + (f"; and {more} more" if more > 0 else "")
        )
        self.failures = tuple(failures)

    def __reduce__(self) -> tuple[Any, ...]:
        return _same_words, (str(self),)


def _same_words(text: str) -> UserError:
    return UserError(text)


@dataclass(frozen=True)
class Outcome:
    """What comes back from a worker: exceptions travel as text, for not every one survives pickling."""

    value: Any = None
    error: str | None = None
    retry: bool = False


def run_items(
    work: Callable[[str], R],
    items: Sequence[str],
    finish: Callable[[str, R], None],
    *,
    jobs: int,
    timeout_s: float = ITEM_TIMEOUT_S,
    what: str = "scoring",
) -> None:
    """Do all items; those that fail do not keep the others from being finished.

    Args:
        work: From an item's name to its result. With ``jobs``, it is pickled once for each process.
        items: Names, in the order in which they are begun.
        finish: Called in this process with each item and its result, in the order in which they are done.
        jobs: Processes; 0: this one alone, in which nothing guards against an item that hangs or crashes.
        timeout_s: Longest time for an item; its process is then ended.
        what: The part of the run, for messages.

    Raises:
        FailedItems: Once all others are finished. An item whose process died or was too slow, or that raised
            something other than a ``UserError``, has then been tried twice. Without processes, only a
            ``UserError`` waits until the others are finished.
        UserError: If ``work`` cannot be given to other processes.
    """
    if jobs < 0 or timeout_s <= 0:
        raise UserError(f"expected 0 or more jobs and a time limit above 0, got {jobs} and {timeout_s}")
    if jobs and items:
        failures = _Parallel(work, finish, min(jobs, len(items)), timeout_s).run(items)
    else:
        failures = []
        for item in items:
            try:
                result = work(item)
            except UserError as error:
                failures.append(Failure(item, str(error)))
                continue
            finish(item, result)
    if failures:
        order = {item: number for number, item in enumerate(items)}
        raise FailedItems(sorted(failures, key=lambda one: order[one.item]), len(items), what)


class _Parallel(Generic[R]):
    """The items of one call of ``run_items``, in processes."""

    def __init__(
        self, work: Callable[[str], R], finish: Callable[[str, R], None], jobs: int, timeout_s: float
    ) -> None:
        self.work, self.finish, self.jobs, self.timeout_s = work, finish, jobs, timeout_s
        self._tried: Counter[str] = Counter()
        self._waiting: deque[str] = deque()
        self._running: dict[Future[Outcome], str] = {}
        self._failures: list[Failure] = []

    def run(self, items: Sequence[str]) -> list[Failure]:
        """What failed twice, or for a reason that will not go away."""
        self._waiting.extend(items)
        while self._waiting:
            pool = self._open()
            try:
                self._drain(pool)
            finally:
                pool.stop()
                pool.join()
        return self._failures

    def _open(self) -> ProcessPool:
        """Processes that begin afresh: one forked from a process with threads or a GPU may hang."""
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise UserError(  # in a worker, which would start workers of its own and wait for ever
                "processes were asked for while a process began: put what a script does below "
                "`if __name__ == '__main__':`, or use 0 jobs"
            )
        try:
            pickle.dumps(self.work)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise UserError(
                f"this cannot be given to other processes ({error}); use 0 jobs, or what can be pickled"
            ) from error
        context = multiprocessing.get_context("spawn")
        return ProcessPool(max_workers=self.jobs, initializer=_begin, initargs=(self.work,), context=context)

    def _drain(self, pool: ProcessPool) -> None:
        """Hand out items until all are done, or the pool is of no more use."""
        while self._waiting or self._running:
            while self._waiting and len(self._running) < PER_WORKER * self.jobs:
                try:
                    future = pool.schedule(_one, (self._waiting[0],), timeout=self.timeout_s)
                except RuntimeError:  # the pool broke between two items: those handed out say why
                    break
                self._running[future] = self._waiting.popleft()
            limit = self.timeout_s + START_S
            ready, _ = wait(self._running, timeout=limit, return_when=FIRST_COMPLETED)
            broken = [self._take(future) for future in ready]
            if not ready or any(broken):
                for item in self._running.values():
                    self._again(item, LOST if ready else f"no word from its process in {limit:.0f} s")
                self._running.clear()
                return

    def _take(self, future: Future[Outcome]) -> bool:
        """Deal with one that is done; whether the pool is broken."""
        item = self._running.pop(future)
        try:
            outcome = future.result()
        except TimeoutError:
            self._again(item, f"took longer than {self.timeout_s:g} s; its process was ended")
        except ProcessExpired as error:
            self._again(item, f"its process {error.pid} died ({_cause(error.exitcode)})")
        except (BrokenProcessPool, OSError, EOFError) as error:
            self._again(item, f"{LOST} ({type(error).__name__}: {error})")
            return True
        else:
            if outcome.error is None:
                self.finish(item, outcome.value)
            elif outcome.retry:
                self._again(item, outcome.error)
            else:
                self._failures.append(Failure(item, outcome.error))
        return False

    def _again(self, item: str, reason: str) -> None:
        self._tried[item] += 1
        if self._tried[item] < ATTEMPTS:
            self._waiting.append(item)
        else:
            self._failures.append(Failure(item, f"{reason}; tried {ATTEMPTS} times"))


LOST = "the worker processes were lost"
_work: Callable[[str], Any] | None = None


def _begin(work: Callable[[str], Any]) -> None:
    """In a worker: keep the work, use one thread, and end with the parent, however that ends."""
    global _work
    _work = work
    os.environ["OMP_NUM_THREADS"] = "1"
    import cv2

    cv2.setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _one(item: str) -> Outcome:
    assert _work is not None
    try:
        return Outcome(_work(item))
    except UserError as error:
        return Outcome(error=str(error))
    except Exception as error:
        return Outcome(error=f"{type(error).__name__}: {error}\n{traceback.format_exc()}", retry=True)


def _cause(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return name + (", as the system does when memory runs out" if -code == signal.SIGKILL else "")
