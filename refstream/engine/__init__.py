"""Training, checkpoints, export: the only place that knows mmengine's Runner, XTuner and DeepSpeed."""

import os

import torch

if not torch.cuda.is_available():  # or DeepSpeed, which mmengine imports, warns that it found no GPU
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
