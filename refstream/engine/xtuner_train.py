"""Train a config with XTuner's own script, in place of ours; also ``refstream train CONFIG --xtuner``.

python -m refstream.engine.xtuner_train CONFIG [--work-dir W] [--deepspeed zero2] [--cfg-options k=v ...]

The config is checked and completed as for every other run, written into the work directory, and given to
``xtuner.tools.train``, which builds the Runner and trains. Its loop is used by name as well, in any config:
``train_cfg=dict(type="xtuner.engine.runner.TrainLoop", max_iters=...)``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import DictAction
from mmengine.dist import barrier, get_rank

from refstream.engine.config import require_files
from refstream.engine.strategies import start_processes
from refstream.engine.train import prepare, runner_config, work_folder
from refstream.errors import UserError
from refstream.registry import import_methods


def train_with_xtuner(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    work_dir: str | Path | None = None,
    resume: bool | str = False,
    launcher: str = "none",
    strategy: str | None = None,
    further: Sequence[str] = (),
) -> Path:
    """Train as ``train`` does, by XTuner's script; arguments as there.

    Args:
        path: Config file.
        overrides: Dotted keys that replace values of the config.
        work_dir: Also gets ``xtuner.py``, the config that XTuner's script reads.
        resume: With a strategy as in ``train``; without, resuming is not XTuner's to do.
        launcher: "none", "pytorch", "slurm" or "mpi".
        strategy: "zero1", "zero2" or "zero3" in place of the config's.
        further: More arguments of XTuner's script, as ``--seed 1``.

    Returns:
        The work directory.

    Raises:
        UserError: If XTuner lacks a package, or cannot do what is asked.
    """
    try:
        from xtuner.tools import train as script
    except ModuleNotFoundError as error:
        raise UserError(f"XTuner needs the package {error.name!r}: pip install {error.name}") from error
    config = prepare(path, overrides, strategy)
    if resume and "strategy" not in config:
        raise UserError("XTuner's script cannot read our checkpoints; resume with `refstream train --resume`")
    require_files(config)
    import_methods()
    folder = work_folder(config, path, work_dir)
    full = runner_config(config, folder, resume=resume, launcher=launcher)
    start_processes(launcher, full.get("strategy"))
    file = folder / "xtuner.py"
    if get_rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        full.dump(file)
    barrier()
    sys.argv = [script.__file__, str(file), "--work-dir", str(folder), "--launcher", launcher, *further]
    script.main()
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and train; what it does not know goes to XTuner's script."""
    parser = argparse.ArgumentParser(prog="python -m refstream.engine.xtuner_train", description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="default: work_dirs/<name of the config>")
    parser.add_argument("--resume", nargs="?", const=True, default=False, metavar="FOLDER")
    parser.add_argument("--deepspeed", metavar="NAME", help="zero1, zero2 or zero3")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    args, further = parser.parse_known_args(arguments)
    train_with_xtuner(
        args.config,
        args.cfg_options,
        work_dir=args.work_dir,
        resume=args.resume,
        launcher=args.launcher,
        strategy=args.deepspeed,
        further=further,
    )


if __name__ == "__main__":
    main()
