"""torchrun for ``dist.sh``: the same arguments, but a mistake of the user's does not end in a traceback.

Where a process told the user in one line what to mend, and left with 2, so does this. Where one failed
otherwise, torchrun's summary names it, and this leaves with 1, as torchrun does.
"""

from __future__ import annotations

import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

USER_ERROR, FAILED = 2, 1


def main() -> int:
    """Start the processes and wait for them; the exit code."""
    try:
        torchrun()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode != USER_ERROR:
            print(error, file=sys.stderr)
            return FAILED
        print(f"process {rank} left with code {USER_ERROR}; see its message above", file=sys.stderr)
        return USER_ERROR
    except SignalException as error:
        print(f"told to stop by {error.sigval.name}; all processes have ended", file=sys.stderr)
        return 128 + error.sigval
    return 0


if __name__ == "__main__":
    sys.exit(main())
