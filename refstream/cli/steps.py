"""Progress of an evaluation that has several parts."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from refstream.cli.console import Advance, progress_bar


class Steps:
    """A progress bar for each part of an evaluation, one after the other. A context manager."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._stack = quiet, ExitStack()
        self._what, self._done = "", 0
        self._advance: Advance | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """See ``evaluate.Progress``."""
        if self._advance is None or what != self._what or done < self._done:
            self._stack.close()
            self._advance = self._stack.enter_context(progress_bar(what, total, quiet=self._quiet))
            self._what, self._done = what, 0
        while self._done < done:
            self._done += 1
            self._advance()

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()
