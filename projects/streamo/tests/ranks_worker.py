"""One optimizer step over eight dialogues by the real engine; see ``test_ranks``.

python [-m torch.distributed.run ...] ranks_worker.py '[{"batch_size": 8, "accumulate": 1, "folder": ...}]'
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
from mmengine.config import Config
from models import dialogue, speaking_config  # type: ignore[import-not-found]  # beside this script
from refstream_projects.streamo import learner
from torch import distributed

from refstream.data.collate import ClipSample
from refstream.engine.train import build_runner
from refstream.registry import DATASETS, LEARNERS

STATES = ("sstrs", "sss", "str", "ssss", "rs", "t", "sttr", "ss")
SMALL_ROW = 320  # so that processes have different numbers of rows


@DATASETS.register_module(force=True)
class EightStreams:
    """Dialogues of different lengths and states."""

    def __len__(self) -> int:
        return len(STATES)

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        return dialogue(index, STATES[index])


def config(batch_size: int, accumulate: int) -> Config:
    return Config(
        dict(
            model=dict(
                type="TrainingModel",
                model=dict(mllm=speaking_config()),
                learner=dict(type="StreamoLearner", max_tokens=SMALL_ROW),
                trainable=["mllm.model.model.multi_modal_projector.*", "mllm.model.lm_head.*"],
            ),
            train_cfg=dict(type="StepTrainLoop", max_iters=accumulate),
            train_dataloader=dict(
                batch_size=batch_size,
                num_workers=0,
                sampler=dict(type="DrawSampler"),
                dataset=dict(type="EightStreams"),
            ),
            optim_wrapper=dict(
                type="OptimWrapper", optimizer=dict(type="SGD", lr=1.0), accumulative_counts=accumulate
            ),
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=1000),
                checkpoint=dict(type="CheckpointFolderHook", interval=0, save_last=False),
            ),
            custom_hooks=[dict(type="ExportHook"), dict(type="JsonLinesHook", interval=1)],
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=0),
            env_cfg=dict(cudnn_benchmark=False),
            visualizer=dict(type="Visualizer", vis_backends=[]),
        )
    )


def main() -> None:
    """Train each, in as many processes as were started."""
    assert LEARNERS.get("StreamoLearner") is learner.StreamoLearner
    launcher = "pytorch" if "RANK" in os.environ else "none"
    for job in json.loads(sys.argv[1]):
        keys: dict[str, Any] = {name: job[name] for name in ("batch_size", "accumulate")}
        build_runner(config(**keys), job["folder"], launcher=launcher).train()
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
