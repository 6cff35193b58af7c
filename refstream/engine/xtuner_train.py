"""Train a config with XTuner's own script, in place of ``tools/train.py``.

python -m refstream.engine.xtuner_train CONFIG [--work-dir W] [--deepspeed zero2] [--cfg-options k=v ...]

The config is checked and completed as for every other run, written into the work directory, and given to
``xtuner.tools.train``, which builds the Runner and trains. Its loop is used by name as well, in any config:
``train_cfg=dict(type="xtuner.engine.runner.TrainLoop", max_iters=...)``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmengine.config import DictAction
from mmengine.dist import barrier, get_rank

from refstream.engine.config import require_files
from refstream.engine.strategies import start_processes
from refstream.engine.train import prepare, runner_config, work_folder
from refstream.errors import UserError
from refstream.registry import import_methods


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, then hand over; arguments of XTuner's script that are not named here reach it.

    Raises:
        UserError: If XTuner lacks a package.
    """
    parser = argparse.ArgumentParser(prog="python -m refstream.engine.xtuner_train", description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="default: work_dirs/<name of the config>")
    parser.add_argument("--resume", nargs="?", const=True, default=False, metavar="FOLDER")
    parser.add_argument("--deepspeed", metavar="NAME", help="zero1, zero2 or zero3")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    args, further = parser.parse_known_args(arguments)

    try:
        from xtuner.tools import train as script
    except ModuleNotFoundError as error:
        raise UserError(f"XTuner needs the package {error.name!r}: pip install {error.name}") from error
    config = prepare(args.config, args.cfg_options, args.deepspeed)
    require_files(config)
    import_methods()
    folder = work_folder(config, args.config, args.work_dir)
    full = runner_config(config, folder, resume=args.resume, launcher=args.launcher)
    start_processes(args.launcher, full.get("strategy"))
    path = folder / "xtuner.py"
    if get_rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        full.dump(path)
    barrier()
    sys.argv = [script.__file__, str(path), "--work-dir", str(folder), "--launcher", args.launcher, *further]
    script.main()


if __name__ == "__main__":
    main()
