"""Training: a config file in, a trained and exported model out; mmengine's Runner does the work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from refstream.data.collate import ClipBatch, ClipSample, collate_clips
from refstream.registry import SCOPE, import_methods

RUNNER_KEYS = (
    "train_dataloader",
    "train_cfg",
    "optim_wrapper",
    "param_scheduler",
    "default_hooks",
    "custom_hooks",
    "env_cfg",
    "log_processor",
    "log_level",
    "visualizer",
    "randomness",
    "auto_scale_lr",
)


def collate(samples: list[ClipSample]) -> dict[str, ClipBatch]:
    """Join samples as keyword arguments of ``TrainingModel.forward``."""
    return {"batch": collate_clips(samples)}


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a config file; ``overrides`` has dotted keys (``{"train_cfg.max_iters": 10}``).

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no config at {path}; give a file such as projects/<method>/configs/tiny_stage1.py")
    config = Config.fromfile(str(path))
    if overrides:
        config.merge_from_dict(dict(overrides))
    return config


def build_runner(config: Config, work_dir: str | Path, *, resume: bool = False, launcher: str = "none") -> Runner:
    """The Runner of a config, with its training model built."""
    import_methods()
    keys = {key: config[key] for key in RUNNER_KEYS if key in config}
    loader = keys["train_dataloader"]
    loader["collate_fn"] = collate
    return Runner(
        model=config.model,
        work_dir=str(work_dir),
        resume=resume,
        launcher=launcher,
        default_scope=SCOPE,
        experiment_name=Path(work_dir).name,
        cfg=config,
        **keys,
    )


def train(
    config: str | Path | Config,
    overrides: Mapping[str, Any] | None = None,
    *,
    work_dir: str | Path | None = None,
    resume: bool = False,
    launcher: str = "none",
) -> Path:
    """Train what a config describes.

    Args:
        config: File, or what ``load_config`` read from it.
        overrides: Dotted keys that replace values of the config.
        work_dir: Logs, checkpoints and the export; default ``work_dirs/<name of the config>``.
        resume: Go on from the last checkpoint in ``work_dir``.
        launcher: "none", "pytorch", "slurm" or "mpi".

    Returns:
        The work directory.
    """
    name = Path(config).stem if not isinstance(config, Config) else Path(config.filename or "run").stem
    loaded = config if isinstance(config, Config) else load_config(config, overrides)
    folder = Path(work_dir or loaded.get("work_dir") or Path("work_dirs") / name)
    runner = build_runner(loaded, folder, resume=resume, launcher=launcher)
    runner.train()
    return folder
