"""The smallest model that trains, for the engine's tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from refstream.data.collate import ClipBatch, ClipSample, collate_clips
from refstream.testing.small import MLLM, SAM2


def training_keys(**keys: Any) -> dict[str, Any]:
    """Keys of a small ``TrainingModel``."""
    return (
        dict(
            type="TrainingModel",
            model=dict(
                mllm=dict(type="InternVL", config=MLLM),
                segmenter=dict(type="Sam2Segmenter", config=SAM2),
                pipeline=dict(type="StreamingRVOS"),
            ),
            learner=dict(type="StreamingRVOSLearner"),
            initialise={},
        )
        | keys
    )


def batch(num_frames: int = 2) -> ClipBatch:
    """Two clips with two expressions each."""
    rng = np.random.default_rng(0)
    samples = []
    for i in range(2):
        masks = np.zeros((2, num_frames, 48, 64), dtype=bool)
        masks[0, :, 8:24, 8:30] = masks[1, :, 20:40, 30:60] = True
        frames = rng.integers(0, 256, (num_frames, 48, 64, 3), dtype=np.uint8)
        samples.append(ClipSample(frames, ["the red circle", "the blue square"], masks, f"clip {i}"))
    return collate_clips(samples)
