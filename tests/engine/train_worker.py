"""Several trainings one after the other in the same processes, which start once for all; see ``processes``.

python -m torch.distributed.run ... tests/engine/train_worker.py '[{"config": ..., "work_dir": ...}, ...]'
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from torch import distributed

from refstream.engine.config import load_config
from refstream.engine.train import build_runner


def main() -> None:
    """Train each; ``forget`` names a checkpoint to remove before."""
    for job in json.loads(sys.argv[1]):
        if distributed.is_initialized():
            distributed.barrier()
            if job.get("forget") and distributed.get_rank() == 0:
                shutil.rmtree(Path(job["work_dir"]) / job["forget"])
            distributed.barrier()
        resume = job.get("resume", False)
        build_runner(load_config(job["config"]), job["work_dir"], resume=resume, launcher="pytorch").train()
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
