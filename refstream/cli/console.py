"""The two consoles: results on stdout, everything else on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

OUT = Console(soft_wrap=False)
ERR = Console(stderr=True)


class Advance(Protocol):
    """Moves a progress bar by one step."""

    def __call__(self, note: str = "") -> None: ...


@contextmanager
def progress_bar(title: str, total: int | None, *, quiet: bool = False) -> Iterator[Advance]:
    """A progress bar on stderr; silent if ``quiet`` or if stderr is not a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=ERR, disable=quiet or not ERR.is_terminal) as progress:
        task = progress.add_task(title, total=total, note="")

        def advance(note: str = "") -> None:
            progress.update(task, advance=1, note=note)

        yield advance


def note(message: str, *, quiet: bool = False) -> None:
    """One remark on stderr."""
    if not quiet:
        ERR.print(f"note: {message}", markup=False, highlight=False, soft_wrap=True)


def complain(message: str) -> None:
    """Say on one line of stderr what went wrong."""
    ERR.print(f"refstream: error: {' '.join(message.split())}", markup=False, highlight=False, soft_wrap=True)
