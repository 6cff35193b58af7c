"""The command ``refstream``. Exit codes: 0 done, 2 bad input (one line says what), 130 interrupted."""

from refstream.cli.app import main

__all__ = ["main"]
