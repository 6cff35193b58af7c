"""The smallest model that trains, for the engine's tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from refstream.data.collate import ClipBatch, ClipSample, collate_clips

MLLM = dict(
    vision_config=dict(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=[64, 64],
        patch_size=[16, 16],
    ),
    text_config=dict(
        model_type="qwen2",
        vocab_size=1,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
    ),
    downsample_ratio=0.5,
)
SAM2 = dict(
    image_size=64,
    hidden_dim=32,
    mem_dim=16,
    trunk=dict(embed_dim=8, num_heads=1, stages=[1, 1, 2, 1], global_att_blocks=[3]),
    memory_attention=dict(layers=1, feedforward=32),
)


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
