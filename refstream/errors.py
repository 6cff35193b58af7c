"""Errors that are the user's to mend: one clear line says what was expected, what came and what to do."""

from __future__ import annotations

from pathlib import Path


class UserError(ValueError):
    """Bad input or an impossible request; the command line prints its text and leaves with code 2."""


class VideoError(UserError):
    """A video, folder of frames or stream that cannot be read.

    Attributes:
        source: What was being read.
        frame_index: Index of the frame that failed: as many were read before it. None before the first.
    """

    def __init__(self, source: str | Path, message: str, frame_index: int | None = None) -> None:
        where = f"{source}" if frame_index is None else f"{source}, frame {frame_index}"
        super().__init__(f"{where}: {message}")
        self.source = str(source)
        self.frame_index = frame_index


class OutputError(UserError):
    """A result that cannot be written (disk full, no permission); what was written before is intact.

    Attributes:
        path: The file that could not be written.
    """

    def __init__(self, path: str | Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = Path(path)
