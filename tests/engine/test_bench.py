"""The benchmark: same masks where it says so, and the call counts of each arm. Times are never asserted."""

from __future__ import annotations

import pytest
import torch

from refstream.engine.bench import Arm, arms_for, build_model, run_arm
from refstream.registry import PIPELINES, import_methods
from refstream.structures import Frame
from refstream.synthetic.minirvos import MiniRVOS


@pytest.mark.slow
def test_exact_arm_gives_the_masks_of_the_released_loop() -> None:
    model = build_model("hundredth", device="cpu", dtype=torch.float32)
    clip = MiniRVOS("test", 0, 1, num_frames=4, size=(60, 107))[0]
    frames = [Frame(i, i / 25, image) for i, image in enumerate(clip.frames)]
    arms: dict[str, Arm] = {}
    for arm in arms_for("StreamingRVOS", PIPELINES.get("StreamingRVOS").presets):
        run_arm(model, arm, frames, [e.text for e in clip.expressions[:2]])
        arms[arm.name] = arm
    assert arms["release"].looks == arms["exact"].looks == 8
    assert arms["full"].looks < 8
    assert all((a == b).all() for a, b in zip(arms["release"].masks, arms["exact"].masks, strict=True))


def test_a_pipeline_without_the_preset_says_so() -> None:
    import_methods()
    with pytest.raises(ValueError, match="no preset 'release'"):
        arms_for("Other", {})
