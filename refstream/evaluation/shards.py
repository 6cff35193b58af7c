"""The part of a run that one process takes, when several share it (torchrun, MPI, Slurm).

The processes never speak to each other: each computes what the others take, and all look into one folder.
There each one shows that it lives (``heartbeat.py``), so that none waits for a dead one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from refstream.errors import UserError
from refstream.evaluation.heartbeat import ITEM_S, POLL_S, SILENT_S, START_S, Heart, LostProcess
from refstream.evaluation.ledger import Ledger

T = TypeVar("T")
Launcher = Literal["none", "pytorch", "slurm", "mpi"]
# Rank, number of processes, rank on this machine; the names that each kind of launcher sets.
TORCHRUN = (("RANK", "WORLD_SIZE", "LOCAL_RANK"),)
MPI = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
)
SLURM = (("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),)
# An allocation's shell also has SLURM_NTASKS, though it is alone; only a step started by srun has this one.
SLURM_STEP = (("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),)
VARIABLES: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "none": (*TORCHRUN, *MPI, *SLURM_STEP),
    "pytorch": TORCHRUN,
    "mpi": (*MPI, *TORCHRUN),
    "slurm": SLURM,
}


@dataclass(frozen=True)
class Shard:
    """One of ``world`` processes.

    Attributes:
        rank: From 0.
        world: How many there are.
        local_rank: From 0 on each machine; says which GPU to take.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    def take(self, jobs: Sequence[T], cost: Callable[[T], int]) -> list[T]:
        """This process's jobs, in their order: the costliest jobs go first to whoever has least to do.

        The division depends on the jobs alone, so that all processes agree without speaking to each other.
        """
        load = [0] * self.world
        mine = []
        for number in sorted(range(len(jobs)), key=lambda n: (-cost(jobs[n]), n)):
            rank = min(range(self.world), key=lambda r: (load[r], r))
            load[rank] += cost(jobs[number])
            if rank == self.rank:
                mine.append(number)
        return [jobs[number] for number in sorted(mine)]

    def report(self, item: str) -> None:
        """Says what this process is at, so that it can be named if it dies; "" for nothing."""

    @contextmanager
    def working_on(self, item: str) -> Iterator[None]:
        """``report`` the item until it is done."""
        self.report(item)
        yield
        self.report("")

    def wait(self, ledger: Ledger, items: set[str], what: str) -> None:
        """Return once all items are in the ledger, whichever process finishes them.

        Args:
            ledger: Shared by all processes.
            items: What must be in it.
            what: The part of the run, for the message.

        Raises:
            LostProcess: If a process that has to finish some of them died or hangs.
        """
        missing = items - ledger.done()
        if missing:
            if self.world > 1:
                raise ValueError(f"{what}: processes that share a run wait within `Shard.beating`")
            raise LostProcess(f"{what}: {_missing(missing, items)}")

    @contextmanager
    def beating(
        self,
        folder: str | Path,
        *,
        silent_s: float = SILENT_S,
        start_s: float = START_S,
        item_s: float = ITEM_S,
        first: Callable[[], None] | None = None,
    ) -> Iterator[Shard]:
        """This process's part, with signs of life while the context lasts.

        Args:
            folder: The same for all processes.
            silent_s: After this time without a sign, another process counts as dead.
            start_s: The same before its first sign.
            item_s: After this time on one item, a process counts as hanging, though it lives.
            first: Done by rank 0 before any other process goes on.

        Raises:
            LostProcess: If rank 0 never begins.
        """
        if self.world == 1:
            if first is not None:
                first()
            yield self
            return
        heart = Heart(Path(folder), self.rank, self.world, silent_s=silent_s, start_s=start_s, item_s=item_s)
        if self.rank == 0 and first is not None:
            first()
        with heart:
            if self.rank != 0 and first is not None:
                heart.wait_for_first()
            yield BeatingShard(self.rank, self.world, self.local_rank, heart=heart)


ONE = Shard()


@dataclass(frozen=True, kw_only=True)
class BeatingShard(Shard):
    """A shard within ``Shard.beating``.

    Attributes:
        heart: What shows that this process lives, and watches the others.
    """

    heart: Heart

    def report(self, item: str) -> None:
        self.heart.report(item)

    def wait(self, ledger: Ledger, items: set[str], what: str) -> None:
        self.report("")
        while items - ledger.done():
            lost = self.heart.lost()
            # Whoever finished may have done so after the look into the ledger.
            if lost is not None and (missing := items - ledger.done()):
                raise LostProcess(
                    f"{what}: {lost}; {_missing(missing, items)}; "
                    "what is finished is kept, the same command goes on from there"
                )
            time.sleep(POLL_S)


def current_shard(launcher: Launcher = "none") -> Shard:
    """This process's part.

    Args:
        launcher: Whose word in the environment counts; "none": torchrun, ``torch.distributed.launch``, mpirun
            or srun, whichever started this process, else it is the only one.

    Raises:
        UserError: If the launcher named left no word in the environment, or nonsense.
    """
    for rank, world, local in VARIABLES[launcher]:
        if rank in os.environ and world in os.environ:
            try:
                numbers = [int(os.environ.get(name) or "0") for name in (rank, world, local)]
            except ValueError:
                numbers = [0, 0, 0]
            if not 0 <= numbers[0] < numbers[1]:
                values = f"{rank}={os.environ[rank]!r}, {world}={os.environ[world]!r}"
                raise UserError(f"the environment says {values}; expected a rank from 0 and below the number")
            return Shard(*numbers)
    if launcher != "none":
        names = " or ".join(f"{rank} and {world}" for rank, world, _ in VARIABLES[launcher])
        raise UserError(
            f"--launcher {launcher}: the environment has no {names}; "
            "was this started by that launcher? (torchrun, mpirun, srun)"
        )
    return ONE


def _missing(missing: set[str], items: set[str]) -> str:
    names = ", ".join(sorted(missing)[:5])
    return f"{len(missing)} of {len(items)} items are missing: {names}" + (
        ", ..." if len(missing) > 5 else ""
    )
