"""VIRST on streams: anchors on the fly, a bounded window, queries of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from refstream_projects.virst.anchors import AnchorPolicy
from refstream_projects.virst.memory_group import MemoryGroup, shape_of
from refstream_projects.virst.tests.models import (
    NUM_TOKENS,
    READER,
    SAID,
    clip,
    numbers,
    small_virst,
    spy,
    stream,
)

import refstream
from refstream.streaming.gates import GateDecision
from refstream.streaming.session import StreamSession


@pytest.fixture(scope="module")
def model() -> Any:
    return small_virst(reader=READER)


def test_the_first_frame_online_is_a_clip_of_one_frame(model: Any) -> None:
    (online,) = stream(model, clip(1), SAID[:1], online=True)
    (offline,) = stream(model, clip(1), SAID[:1])
    assert online[0].mask.tobytes() == offline[0].mask.tobytes()  # type: ignore[union-attr]
    assert online[0].pred_iou == pytest.approx(offline[0].pred_iou)


@pytest.mark.parametrize(
    ("view", "looked"),
    [
        ("window", [[0], [0, 2, 3, 4], [0, 4, 7, 8], [4, 8, 11, 12]]),
        ("anchors", [[0], [0, 4], [0, 4, 8], [4, 8, 12]]),
    ],
)
def test_the_window_at_an_anchor(
    model: Any, monkeypatch: pytest.MonkeyPatch, view: str, looked: list[list[int]]
) -> None:
    """Anchors 0, 4, 8, 12: the two last anchors, the two last frames, and the present one."""
    fused, seen = [], []
    frames = clip(13)
    pipeline = model.pipeline(
        online=True, anchors=dict(type="every_k", k=4), keep_anchors=2, keep_recent=2, mllm_view=view
    )
    spy(monkeypatch, model.head, "initial", lambda tokens, mask=None: fused.append(tokens.num_frames))
    spy(monkeypatch, pipeline.parts.reader, "read", lambda vision, *a, **k: seen.append(vision))
    session = StreamSession(pipeline)
    session.open(SAID[:1])
    for frame in frames:
        session.step(frame)
    windows = [[0], [0, 2, 3, 4], [0, 4, 6, 7, 8], [4, 8, 10, 11, 12]]
    assert fused == [len(window) for window in windows]
    whole = pipeline.parts.reader.encode([frame.image for frame in frames])
    for vision, expected in zip(seen, looked, strict=True):
        torch.testing.assert_close(vision, whole[expected])


class Switch(AnchorPolicy):
    """Anchors on chosen frames; looks at the tracked mask first."""

    online, offline, needs_mask = True, False, True

    def __init__(self, *frames: int) -> None:
        super().__init__()
        self.frames, self.judged = frames, []

    def _decide(self, signals: Any) -> GateDecision:
        self.judged.append((signals.frame_index, signals.pred_iou, signals.consistency))
        return GateDecision(signals.frame_index in self.frames, "asked")


def test_a_policy_that_judges_the_tracked_mask(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs a second decoding at anchors, and leaves no trace where it finds nothing wrong."""
    decodes = []
    spy(
        monkeypatch,
        model.segmenter,
        "run_heads",
        lambda image, high, sparse, *a: decodes.append(sparse.shape[1]),
    )
    policy = Switch(2)
    (events,) = stream(model, clip(5), SAID[:1], online=True, anchors=policy)
    assert decodes == [NUM_TOKENS, 2, 2, NUM_TOKENS, 2, 2]
    assert [e.reason for e in events] == ["first", "asked", "asked", "asked", "asked"]
    assert [e.invoked_mllm for e in events] == [True, False, True, False, False]
    assert [frame for frame, _, _ in policy.judged] == [1, 2, 3, 4]
    assert all(iou is not None and steady is not None for _, iou, steady in policy.judged)
    at = {frame: (iou, steady) for frame, iou, steady in policy.judged}
    assert at[3] == (events[3].pred_iou, events[3].consistency), "what is judged is what is emitted"
    assert at[2][0] != events[2].pred_iou, "but not at an anchor, which is decoded again"
    (calm,) = stream(model, clip(5), SAID[:1], online=True, anchors=dict(type="every_k", k=99))
    assert [numbers(e)[:5] for e in calm[:2]] == [numbers(e)[:5] for e in events[:2]]


def test_queries_with_anchors_of_their_own_online(model: Any) -> None:
    """Memories of different shape are read apart, those of one shape together."""

    class ByQuery(AnchorPolicy):
        online, offline = True, False

        def _decide(self, signals: Any) -> GateDecision:
            return GateDecision(signals.query % 3 == signals.frame_index % 3, "turn")

    frames = clip(9)
    session = StreamSession(model.pipeline(online=True, anchors=ByQuery()))
    ids = session.open(SAID)
    events = [event for frame in frames for event in session.step(frame)]
    assert len({tuple(e.invoked_mllm for e in events if e.query_id == i) for i in ids}) > 1
    for i, text in zip(ids, SAID, strict=True):
        session = StreamSession(model.pipeline(online=True, anchors=ByQuery()))
        session.add(text, query_id=i)
        alone = [event for frame in frames for event in session.step(frame)]
        assert [numbers(e) for e in alone] == [numbers(e) for e in events if e.query_id == i]


@pytest.mark.parametrize("keys", [dict(mllm_view="anchors"), dict(anchors=dict(type="score", every=5))])
def test_a_stream_needs_no_more_and_no_more(model: Any, keys: dict[str, Any]) -> None:
    """The largest state of frames 60 to 79 is that of the frames 40 to 59."""
    pipeline = model.pipeline(online=True, **keys)
    session = StreamSession(pipeline)
    session.open(SAID[:1])
    sizes, frames = [], clip(20)
    for t in range(80):
        session.step(refstream.structures.Frame(t, t / 10, frames[t % 20].image))
        sizes.append(
            sum(
                state.memory.num_bytes + sum(held(one) for one in (*state.anchors, *state.recent))
                for state in session._states.values()
            )
        )
    assert max(sizes[60:]) == max(sizes[40:60]) > 0


def held(glimpse: Any) -> int:
    tensors = (glimpse.tokens.initial, glimpse.tokens.second, glimpse.vision)
    size = sum(t.untyped_storage().nbytes() for t in tensors if t is not None)
    return size + (0 if glimpse.image is None else glimpse.image.nbytes)


def test_memories_of_other_shapes_are_not_read_together(model: Any) -> None:
    session = StreamSession(model.pipeline(online=True))
    session.add(SAID[0])
    session.step(clip(3)[0])
    session.add(SAID[1])
    for frame in clip(3)[1:]:
        session.step(frame)
    first, second = (state.memory for state in session._states.values())
    assert shape_of(first, 3) != shape_of(second, 3)
    with pytest.raises(ValueError, match="group them by shape_of"):
        MemoryGroup(first, [first, second]).read(3)
    alone, twice = first.read(3), MemoryGroup(first, [first, first]).read(3)
    assert alone is not None
    assert twice is not None
    assert [row for _, row in twice.maps] == [row for _, row in alone.maps] == [-1, 1, 0]
    for (one, _), (two, _) in zip(alone.pointers, twice.pointers, strict=True):
        assert torch.equal(two.pointer, one.pointer.repeat(2, 1))
