"""A run of the tiny model in a process of its own, to be killed and resumed; see ``test_resume``.

python tests/engine/resume_worker.py '{"phases": [{"work_dir": ..., "stop_at": ...}, ...], ...}'

Every iteration appends a line to ``trace0.jsonl`` (0: the rank): losses and learning rate to the last bit,
sample ids, a hash of the generators. A finished run writes ``final0.safetensors`` and ``final0.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from safetensors.torch import save_file
from torch.utils.data import Dataset

from refstream.data import sampler
from refstream.data.collate import ClipSample, collate_clips
from refstream.data.datasets.minirvos import to_sample
from refstream.engine import loops, model, signals
from refstream.engine.checkpoint import resume_from
from refstream.engine.state import capture_rng, pack, trained_state
from refstream.engine.strategies import training_model
from refstream.registry import import_methods
from refstream.synthetic.minirvos import MiniRVOS

CONFIGS = Path(__file__).resolve().parents[2] / "projects" / "streamingrvos" / "configs"
USED = (sampler, loops, model, signals)  # imported to register what is named below


class Stream(Dataset[ClipSample]):
    """Sample ``draw`` of an endless stream; its order and its noise depend on the draw number alone."""

    def __init__(self, length: int, num_frames: int) -> None:
        options: dict[str, Any] = dict(num_frames=num_frames) if num_frames > 1 else {}
        self.source = MiniRVOS("train", 3, num_clips=length, size=(48, 64), **options)
        self.num_frames = num_frames

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: int) -> ClipSample:
        epoch, position = divmod(draw, len(self))
        index = int(np.random.default_rng([7, epoch]).permutation(len(self))[position])
        clip = self.source[index] if self.num_frames > 1 else self.source.still(index, 2)
        sample = to_sample(clip, clip.expressions[:2])
        noise = np.random.default_rng([8, draw]).integers(0, 20, sample.frames.shape, dtype=np.uint8)
        frames = np.clip(sample.frames, 0, 235) + noise
        return ClipSample(frames, sample.expressions, sample.masks, f"{draw}:{sample.id}")


def collate(samples: list[ClipSample]) -> dict[str, Any]:
    """As the training engine joins samples."""
    return {"batch": collate_clips(samples)}


class Trace(Hook):
    """Write down every iteration, and stop in the middle of it all if told to."""

    priority = "LOW"

    def __init__(self, stop_at: int | None, how: str, pause: float) -> None:
        self.stop_at, self.how, self.pause = stop_at, how, pause

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        completed = runner.iter + 1
        rng = capture_rng()
        digest = hashlib.sha256(b"".join(rng[name].numpy().tobytes() for name in sorted(rng)))
        line = {
            "iter": completed,
            "losses": {name: float(value).hex() for name, value in sorted(outputs.items())},
            "lr": [value.hex() for value in runner.optim_wrapper.get_lr()["lr"]],
            "samples": runner.train_loop.sample_ids,
            "totals": dict(data_batch["batch"].totals),
            "rng": digest.hexdigest(),
            "waited": runner.train_loop.data_seconds > 0,
        }
        with (Path(runner.work_dir) / f"trace{runner.rank}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        time.sleep(self.pause)
        if completed == self.stop_at and runner.rank == runner.world_size - 1:
            os.kill(os.getpid(), signal.Signals[self.how])
            time.sleep(0.1)


def model_config(kind: str) -> dict[str, Any]:
    """The tiny model of a stage, smaller still, with dropout."""
    stage = "tiny_stage1" if kind != "stage2" else "tiny_stage2"
    config = Config.fromfile(str(CONFIGS / f"{stage}.py")).to_dict()["model"]
    config["sources"] = ()
    parts = config["model"]
    parts["mllm"]["config"]["vision_config"].update(num_hidden_layers=1, image_size=48, hidden_size=48)
    parts["mllm"]["config"]["text_config"].update(
        num_hidden_layers=1, hidden_size=64, intermediate_size=64, attention_dropout=0.2
    )
    parts["segmenter"]["config"].update(image_size=64)
    if kind == "stage2":
        config["learner"]["gate"] = dict(type="ConsistencyGate", tau1=0.45, tau2=0.94)
    if kind == "lora":
        config["lora"] = dict(r=4, alpha=8, dropout=0.1)
        config["token_rows"] = "new"
        config["trainable"] = ["head.*", "segmenter.model.mask_decoder.*"]
    return config


def stop_at(phase: dict[str, Any]) -> int | None:
    """Where to stop; nowhere any more in processes that torchrun has started anew."""
    return None if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) else phase.get("stop_at")


def build(options: dict[str, Any], phase: dict[str, Any]) -> Runner:
    """The Runner of one phase."""
    frames = 3 if options["kind"] == "stage2" else 1
    iters = options["iters"]
    keys: dict[str, Any] = {}
    if options["launcher"] != "none":
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        wrapper = dict(type="MMDistributedDataParallel", device_ids=None, find_unused_parameters=True)
        keys["cfg"] = Config(dict(model_wrapper_cfg=wrapper))
    return Runner(
        model=model_config(options["kind"]),
        work_dir=phase["work_dir"],
        train_dataloader=dict(
            batch_size=2,
            num_workers=options["workers"],
            persistent_workers=options["workers"] > 0,
            dataset=Stream(options["length"], frames),
            sampler=dict(type="DrawSampler"),
            collate_fn=dict(type=collate),
        ),
        train_cfg=dict(type="StepTrainLoop", max_iters=iters),
        optim_wrapper=dict(
            type="OptimWrapper",
            optimizer=dict(type="AdamW", lr=1e-3),
            accumulative_counts=2,
            clip_grad=dict(max_norm=1.0),
        ),
        param_scheduler=[
            dict(type="LinearLR", start_factor=0.1, end=4, by_epoch=False),
            dict(type="CosineAnnealingLR", begin=4, end=iters, by_epoch=False),
        ],
        default_hooks=dict(
            checkpoint=dict(type="CheckpointFolderHook", interval=options["interval"], max_keep=2),
            logger=dict(type="LoggerHook", interval=1000),
        ),
        custom_hooks=[
            Trace(stop_at(phase), phase.get("how", "SIGKILL"), options["pause"]),
            dict(type="SignalHook", burst_seconds=options["burst"]),
        ],
        launcher=options["launcher"],
        env_cfg=dict(dist_cfg=dict(backend="gloo")),
        randomness=dict(seed=5),
        default_scope="refstream",
        experiment_name=Path(phase["work_dir"]).name,
        log_level="WARNING",
        **keys,
    )


def finish(runner: Runner) -> None:
    """Write the final state, to compare."""
    tensors = {f"model.{k}": v for k, v in trained_state(training_model(runner)).items()}
    packed = pack(runner.optim_wrapper.state_dict(), tensors, "optimizer")
    tensors |= {f"rng.{k}": v for k, v in capture_rng().items()}
    folder = Path(runner.work_dir)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"final{runner.rank}.safetensors")
    (folder / f"final{runner.rank}.json").write_text(json.dumps(packed))


def main(options: dict[str, Any]) -> None:
    """Run the phases, one after another."""
    defaults = dict(
        kind="stage1", iters=12, interval=4, length=1000, workers=2, launcher="none", pause=0.0, burst=0.05
    )
    options = {**defaults, **options}
    import_methods()
    torch.set_num_threads(1)
    for phase in options["phases"]:
        runner = build(options, phase)
        if phase.get("resume"):
            start = time.perf_counter()
            found = resume_from(runner, phase.get("from"))
            seconds = time.perf_counter() - start
            text = json.dumps({"found": found and found.name, "seconds": seconds})
            (Path(phase["work_dir"]) / f"resumed{runner.rank}.json").write_text(text)
        runner.train()
        finish(runner)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
