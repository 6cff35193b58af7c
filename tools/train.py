"""Train a config: python tools/train.py projects/<method>/configs/<name>.py [--cfg-options key=value ...].

Several processes: ``bash tools/dist.sh train CONFIG NUM_GPUS``. All options: ``--help``.
"""

from __future__ import annotations

import argparse
import sys

from torch.distributed.elastic.multiprocessing.errors import record

from refstream.cli import arguments
from refstream.cli.app import USER_ERROR
from refstream.cli.console import complain
from refstream.cli.train import run
from refstream.errors import UserError


@record  # torchrun then names the process that failed first, with its traceback
def main() -> None:
    """Read the command line and train; ``SystemExit`` with a code other than 0 if not all was done."""
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.train(parser)
    try:
        code = run(parser.parse_args())
    except (UserError, FileNotFoundError) as error:  # all else keeps its traceback
        complain(str(error))
        code = USER_ERROR
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
