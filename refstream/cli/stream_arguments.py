"""The options of ``refstream eval`` for models that answer in words in a stream. Imports nothing heavy."""

from __future__ import annotations

import argparse

from refstream.cli.arguments import above_zero


def add_streams(parser: argparse.ArgumentParser) -> None:
    """For minirvos_streams, and ovo with a model that answers in words while a stream runs."""
    group = parser.add_argument_group("streams answered in words (minirvos_streams, ovo)")
    group.add_argument("--fps", type=above_zero, metavar="R", help="turns a second; default: the model's own")
    group.add_argument(
        "--offline",
        action="store_true",
        help="ovo: ask each question on frames up to its time, even if the model can follow a stream",
    )
    group.add_argument(
        "--wording",
        choices=["task", "plain"],
        default="task",
        help="ovo: what is asked where answers lie ahead: a sentence for the task (default), or the words of "
        "the annotations alone",
    )
    group.add_argument(
        "--force-choices",
        action="store_true",
        help="ovo: a multiple choice without an answer is answered on its last frame",
    )
