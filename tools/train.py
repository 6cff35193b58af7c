"""Train a config: python tools/train.py projects/<method>/configs/<name>.py [--cfg-options key=value ...].

Several processes: ``bash tools/dist.sh train CONFIG NUM_GPUS``. All options: ``--help``.
"""

from __future__ import annotations

import argparse
import sys

from torch.distributed.elastic.multiprocessing.errors import record

from refstream.cli import arguments
from refstream.cli.train import run


@record  # torchrun then names the process that failed first, with its traceback
def main() -> None:
    """Read the command line and train; ``SystemExit`` with a code other than 0 if not all was done."""
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.train(parser)
    code = run(parser.parse_args())
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
