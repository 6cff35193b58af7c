"""Training: a config file in, a trained and exported model out; mmengine's Runner does the work.

refstream train projects/streamingrvos/configs/tiny_stage1.py [--cfg-options train_cfg.max_iters=100 ...]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import FUNCTIONS
from mmengine.runner import Runner

from refstream.data.collate import ClipBatch, ClipSample, collate_clips
from refstream.engine import hooks, model, pretraining  # noqa: F401 (they register what configs name)
from refstream.registry import SCOPE, import_methods

REQUIRED = ("model", "train_dataloader", "optim_wrapper", "train_cfg")
RUNNER_KEYS = (
    *("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler", "default_hooks", "custom_hooks"),
    *("env_cfg", "log_processor", "log_level", "visualizer", "randomness", "auto_scale_lr"),
)


@FUNCTIONS.register_module()
def collate_training(samples: list[ClipSample]) -> dict[str, ClipBatch]:
    """Join samples as keyword arguments of ``TrainingModel.forward``."""
    return {"batch": collate_clips(samples)}


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a config file.

    Args:
        path: A ``.py`` config (configs are code: run only your own).
        overrides: Dotted keys that replace values (``{"train_cfg.max_iters": 10}``); every key must exist.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: For an unknown key, or a config that misses a part.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no config at {path}; configs lie under projects/<method>/configs")
    config = Config.fromfile(str(path))
    for key in overrides or {}:
        _check_key(config, key)
    config.merge_from_dict(dict(overrides or {}))
    missing = [key for key in REQUIRED if key not in config]
    if missing:
        raise ValueError(f"{path} lacks {missing}; a training config needs {list(REQUIRED)}")
    return config


def _check_key(config: Config, key: str) -> None:
    node: Any = config
    for name in key.split("."):
        if isinstance(node, list | tuple) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        elif hasattr(node, "keys") and name in node:
            node = node[name]
        else:
            known = sorted(node.keys()) if hasattr(node, "keys") else []
            raise ValueError(f"override {key!r}: there is no key {name!r}; known are {known}")


def build_runner(
    config: Config, work_dir: str | Path, *, resume: bool = False, launcher: str = "none"
) -> Runner:
    """The Runner of a config, with its training model built."""
    import_methods()
    keys = {key: config[key] for key in RUNNER_KEYS if key in config}
    keys["train_dataloader"] = dict(keys["train_dataloader"], collate_fn=dict(type=collate_training.__name__))
    if launcher == "pytorch" and not torch.cuda.is_available():
        # mmengine's own set-up asks for a CUDA device, and wraps the model with one
        torch.distributed.init_process_group("gloo")
        wrapper = dict(type="MMDistributedDataParallel", device_ids=None, find_unused_parameters=True)
        keys["cfg"] = Config({**config, "model_wrapper_cfg": wrapper})
    return Runner(
        model=config.model,
        work_dir=str(work_dir),
        resume=resume,
        launcher=launcher,
        default_scope=SCOPE,
        experiment_name=Path(work_dir).resolve().name,
        **{"cfg": config, **keys},
    )


def train(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    work_dir: str | Path | None = None,
    resume: bool = False,
    launcher: str = "none",
) -> Path:
    """Train what a config describes.

    Args:
        path: Config file.
        overrides: Dotted keys that replace values of the config.
        work_dir: Logs, checkpoints and the export; default ``work_dirs/<name of the config>``.
        resume: Go on from the last checkpoint in ``work_dir``.
        launcher: "none", "pytorch", "slurm" or "mpi".

    Returns:
        The work directory.
    """
    config = load_config(path, overrides)
    folder = Path(work_dir or config.get("work_dir") or Path("work_dirs") / Path(path).stem)
    build_runner(config, folder, resume=resume, launcher=launcher).train()
    return folder
