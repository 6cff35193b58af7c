"""A long stream in flat memory."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import refstream
from refstream.resources import default_model_path
from refstream.streaming.session import StreamSession
from refstream.structures import Frame


def endless(num_frames: int) -> Iterator[Frame]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 128, 128, 3), dtype=np.uint8)
    return (Frame(i, i / 25, images[i % 16]) for i in range(num_frames))


def resident_mb() -> float:
    """Memory in use now, in MiB (peak where /proc is missing)."""
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.slow
def test_five_thousand_frames_in_flat_memory() -> None:
    model = refstream.load(default_model_path())
    session = StreamSession(model.pipeline())
    session.open(["the red circle", "the small square"])
    memory = []
    for frame in endless(5000):
        session.step(frame)
        if frame.index % 500 == 499:
            gc.collect()
            live = sum(t.nbytes for t in gc.get_objects() if isinstance(t, torch.Tensor)) / 2**20
            memory.append((resident_mb(), live))
    settled, last = memory[1], memory[-1]
    assert last[1] - settled[1] < 0.1  # tensors alive, MiB
    assert last[0] - settled[0] < 20  # whole process, MiB: 4 KiB a frame would be 16
