"""The method on fakes; tests/contracts checks what every method must keep."""

from __future__ import annotations

import numpy as np
import pytest
from refstream_projects._template import TemplatePipeline

from refstream.streaming.session import StreamSession
from refstream.testing import FakeModel, moving_square_video


def run(gate: dict, num_frames: int = 8):
    frames, masks = moving_square_video(num_frames)
    model = FakeModel()
    session = StreamSession(TemplatePipeline(model, gate=gate))
    session.open(["the red square"])
    return model, [event for frame in frames for event in session.step(frame)], masks


@pytest.mark.parametrize(("k", "looks"), [(1, 8), (3, 3), (5, 2), (100, 1)])
def test_mllm_looks_first_and_every_k_frames(k, looks):
    model, events, _ = run(dict(type="EveryKGate", k=k))
    assert model.mllm.num_looks == looks
    assert [e.invoked_mllm for e in events] == [i % k == 0 for i in range(8)]


def test_masks_follow_the_square():
    _, events, masks = run(dict(type="EveryKGate", k=4))
    for event, truth in zip(events, masks[0], strict=True):
        assert np.array_equal(event.mask, truth)


def test_a_gate_that_needs_the_mask_is_refused():
    with pytest.raises(ValueError, match="ConsistencyGate"):
        TemplatePipeline(FakeModel(), gate=dict(type="ConsistencyGate"))
