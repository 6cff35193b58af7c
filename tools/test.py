"""Score a model: python tools/test.py MODEL --benchmark NAME, the same as ``refstream eval``.

Instead of a model folder, a config may be named: then it is the model that training it left in
``work_dirs/<name of the config>/export``. Several processes: ``bash tools/dist.sh test MODEL NUM_GPUS ...``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from refstream.cli import main as refstream


def of_config(word: str) -> str:
    """The model that training a config left; any other word stays as it is."""
    path = Path(word)
    return str(Path("work_dirs") / path.stem / "export") if path.suffix == ".py" and path.is_file() else word


@record  # torchrun then names the process that failed first
def main() -> None:
    """Read the command line and score; ``SystemExit`` with a code other than 0 if not all was done."""
    code = refstream(["eval", *map(of_config, sys.argv[1:2]), *sys.argv[2:]])
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
