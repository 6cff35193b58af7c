"""Parser and dispatch; heavy imports wait until a command runs, so that ``--help`` is instant."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from refstream import __version__
from refstream.cli import arguments
from refstream.cli.console import complain
from refstream.errors import UserError

USER_ERROR, INTERRUPTED = 2, 130

DESCRIPTION = """\
RefStream: say what to look for, and masks stream out.

  refstream demo                                             the embedded model on an embedded clip
  refstream segment --video clip.mp4 --expression "the dog"  your own video, camera or stream
  refstream watch --video 0 --ask "tell me when ..."         answers in words, as it happens
  refstream eval pretrained/tiny --benchmark minirvos        score a model
  refstream score results.json --benchmark mevis             score masks that are there already
  refstream train CONFIG                                     train one
"""


def _segment(args: argparse.Namespace) -> int:
    from refstream.cli.segment import run

    return run(args)


def _watch(args: argparse.Namespace) -> int:
    from refstream.cli.watch import run

    return run(args)


def _demo(args: argparse.Namespace) -> int:
    from refstream.cli.demo import run

    return run(args)


def _eval(args: argparse.Namespace) -> int:
    from refstream.cli.evaluate import run

    return run(args)


def _score(args: argparse.Namespace) -> int:
    from refstream.cli.score import run

    return run(args)


def _submit(args: argparse.Namespace) -> int:
    from refstream.cli.submit import run

    return run(args)


def _data(args: argparse.Namespace) -> int:
    from refstream.cli.data import run

    return run(args)


def _train(args: argparse.Namespace) -> int:
    from refstream.cli.train import run

    return run(args)


def _convert(args: argparse.Namespace) -> int:
    from refstream.cli.convert import run

    return run(args)


def _bench(args: argparse.Namespace) -> int:
    from refstream.cli.bench import run

    return run(args)


Command = tuple[str, str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]
COMMANDS: tuple[Command, ...] = (
    ("segment", "segment a video, folder of frames, camera or stream", arguments.segment, _segment),
    ("watch", "answer questions about a video while it runs, in words", arguments.watch, _watch),
    ("demo", "the whole way on the embedded clip, or on your own", arguments.demo, _demo),
    ("eval", "score a model on a benchmark", arguments.evaluate, _eval),
    ("score", "score saved predictions on a benchmark", arguments.score, _score),
    ("submit", "write, or check, the zip that a benchmark's server takes", arguments.submit, _submit),
    ("train", "train a config", arguments.train, _train),
    ("convert", "turn released weights into a RefStream folder", arguments.convert, _convert),
    ("data", "write synthetic data; check and prepare data sets", arguments.data, _data),
    ("bench", "measure speed", arguments.bench, _bench),
)


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments; the usage is a page long."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(
        prog="refstream", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"refstream {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary, add_arguments, run in COMMANDS:
        command = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        add_arguments(command)
        command.set_defaults(run=run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code.

    With ``REFSTREAM_DEBUG=1`` errors keep their traceback and debug messages are shown.
    """
    debug = os.environ.get("REFSTREAM_DEBUG", "") not in ("", "0")
    level = logging.DEBUG if debug else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("refstream").setLevel(level)
    try:
        args = build_parser().parse_args(argv)
        return int(args.run(args))
    except KeyboardInterrupt:
        complain("interrupted; what was written is complete up to here")
        return INTERRUPTED
    except BrokenPipeError:  # `refstream ... | head`: nobody reads any more, which is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (UserError, ValueError, OSError) as error:
        if debug:
            raise
        complain(str(error))
        return USER_ERROR
    except RuntimeError as error:
        if debug or type(error).__name__ != "OutOfMemoryError":
            raise
        complain(
            "the GPU's memory is full; try --max-side, --dtype bfloat16, fewer expressions, or --device cpu"
        )
        return USER_ERROR
