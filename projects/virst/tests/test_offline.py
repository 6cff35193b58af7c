"""VIRST on whole clips: who sees what, in which order, at which cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects.virst.anchors import AnchorClip, AnchorPolicy
from refstream_projects.virst.tests.models import (
    NEAREST,
    NUM_TOKENS,
    READER,
    SAID,
    clip,
    numbers,
    shift_score,
    small_virst,
    spy,
    stream,
)
from refstream_projects.virst.tracker import track

from refstream.errors import UserError
from refstream.models.masks import upsample_mask
from refstream.streaming.session import StreamSession


@pytest.fixture(scope="module")
def model() -> Any:
    return small_virst(reader=READER)


@pytest.mark.parametrize("order", ["time", "first_anchor", "anchors_first"])
@pytest.mark.parametrize("num_frames", [7, 11])
@torch.inference_mode()
def test_a_clip_is_fused_asked_about_and_tracked(model: Any, order: str, num_frames: int) -> None:
    """The same as putting the parts together by hand, also where the clip is longer than the budget."""
    memory = NEAREST if order == "anchors_first" else dict(type="tdau")
    frames, budget = clip(num_frames), 7
    (events,) = stream(
        model,
        frames,
        SAID[:1],
        order=order,
        memory=memory,
        max_seg_frames=budget,
        anchors=dict(type="uniform", alpha=3),
    )
    images = [frame.image for frame in frames]
    slots = {7: list(range(7)), 11: [0, 2, 3, 5, 7, 8, 10]}[num_frames]
    features = [model.segmenter.encode(model.segmenter.preprocess([image])) for image in images]
    maps = torch.cat([features[t].embedding for t in slots])[None]
    reader = model.pipeline().parts.reader
    reading = reader.read(reader.vision_tokens(images), model.head.initial(maps), SAID[:1])
    prompts, scores = model.head.second(reading.hidden, maps)
    expected = track(
        model.segmenter,
        features,
        prompts[0],
        [0, 3, 6],
        model.segmenter.new_memory(memory),
        slots=slots,
        order=order,
    )
    anchors = [slots[i] for i in (0, 3, 6)]
    seen = reader.frames(num_frames)
    for event, prediction in zip(events, expected, strict=True):
        t = event.frame_index
        assert np.array_equal(event.mask, upsample_mask(prediction.mask_logits, (48, 64)))
        assert event.pred_iou == pytest.approx(float(prediction.pred_iou), abs=1e-5)
        assert event.object_score == pytest.approx(float(prediction.object_score), abs=1e-5)
        assert event.reason == ("anchor" if t in anchors else "tracked")
        assert event.invoked_mllm == (t in seen)
        assert ("frame_score" in event.extra) == (t in slots)
        if t in slots:
            assert event.extra["frame_score"] == pytest.approx(float(scores[0, slots.index(t)]), abs=1e-5)
    assert {e.mask.any() for e in events} == {True}


@pytest.mark.parametrize("keys", [{}, dict(order="anchors_first", memory=NEAREST), dict(online=True)])
def test_every_frame_is_encoded_once(
    model: Any, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any]
) -> None:
    """Whatever the number of frames and queries; the MLLM sees no frame twice."""
    passes: dict[str, list[int]] = {"segmenter": [], "mllm": [], "llm": []}
    spy(monkeypatch, model.segmenter, "encode", lambda pixels: passes["segmenter"].append(len(pixels)))
    spy(monkeypatch, model.mllm, "encode_images", lambda pixels: passes["mllm"].append(len(pixels)))
    spy(monkeypatch, model.mllm, "forward_chat", lambda chat, *a, **k: passes["llm"].append(chat.batch_size))
    stream(model, clip(13), SAID, max_seg_frames=5, **keys)
    assert passes["segmenter"] == [1] * 13
    if keys.get("online"):
        assert passes["mllm"] == [1, 3], "the first frame; at the second anchor four, of which it is one"
        assert passes["llm"] == [3, 3], "two anchors, all queries at once"
    else:
        assert passes["mllm"] == [4]
        assert passes["llm"] == [3]


@pytest.mark.parametrize("keys", [{}, dict(online=True, anchors=dict(type="every_k", k=3))])
def test_anchors_have_n_sparse_tokens_and_others_two(
    model: Any, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any]
) -> None:
    sparse = []

    def note(image: Any, high_res: Any, tokens: torch.Tensor, dense: Any, multimask: bool) -> None:
        assert dense is None, "the learned no-mask embedding"
        assert multimask
        sparse.append(tokens.shape[1])

    spy(monkeypatch, model.segmenter, "run_heads", note)
    (events,) = stream(model, clip(8), SAID[:1], **keys)
    anchors = [e.frame_index for e in events if e.reason in ("anchor", "first", "period")]
    assert anchors == ([0, 3, 6] if keys else [0, 4, 7])
    assert sparse == [NUM_TOKENS if t in anchors else 2 for t in range(8)]


@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_short_clips_are_anchors_throughout(model: Any, num_frames: int) -> None:
    (events,) = stream(model, clip(num_frames), SAID[:1], anchors=dict(type="uniform", alpha=3))
    assert [e.reason for e in events] == ["anchor"] * num_frames


def test_no_frame_at_all(model: Any) -> None:
    assert stream(model, [], SAID) == [[], [], []]


def test_a_clip_over_the_budget(model: Any) -> None:
    session = StreamSession(model.pipeline(max_frames=3))
    session.open(SAID)
    frames = clip(4)
    for frame in frames[:3]:
        assert session.step(frame) == []
    with pytest.raises(ValueError, match="at most 3 frames"):
        session.step(frames[3])
    assert len(session.close()) == 9, "what came before is answered"
    with pytest.raises(UserError, match="budget of 2"):
        stream(model, frames, SAID, anchors=dict(type="uniform", max_frames=2))


class WordAnchors(AnchorPolicy):
    """As many anchors as the expression has words."""

    def _choose(self, clip: AnchorClip) -> Sequence[int]:
        assert clip.images is not None
        assert clip.expression is not None
        return range(len(clip.expression.split()))


@pytest.mark.parametrize("order", ["time", "anchors_first"])
def test_queries_with_other_anchors_do_not_disturb_each_other(model: Any, order: str) -> None:
    said = ["the red circle", "circle", "red circle", "the blue square"]
    keys = dict(anchors=WordAnchors(), order=order, memory=NEAREST)
    both = stream(model, clip(6), said, **keys)
    assert [sum(e.reason == "anchor" for e in events) for events in both] == [3, 1, 2, 3]
    for text, events in zip(said, both, strict=True):
        (alone,) = stream(model, clip(6), [text], **keys)
        assert [numbers(e) for e in alone] == [numbers(e) for e in events]


@pytest.mark.parametrize("online", [False, True])
def test_a_query_that_comes_late_or_leaves_early(model: Any, online: bool) -> None:
    frames = clip(8)
    session = StreamSession(model.pipeline(online=online))
    (first,) = session.open(SAID[:1])
    events = []
    for frame in frames[:3]:
        events += session.step(frame)
    late = session.add(SAID[1])
    for frame in frames[3:6]:
        events += session.step(frame)
    events += session.drop(first)
    for frame in frames[6:]:
        events += session.step(frame)
    events += session.close()
    for query, text, lived in ((first, SAID[0], frames[:6]), (late, SAID[1], frames[3:])):
        (alone,) = stream(model, lived, [text], online=online)
        own = sorted((e for e in events if e.query_id == query), key=lambda e: e.frame_index)
        assert [numbers(e) for e in own] == [numbers(e) for e in alone]


def test_frames_of_other_sizes(model: Any) -> None:
    frames = [*clip(3), *(clip(5, size=(30, 40))[3:])]
    (events,) = stream(model, frames, SAID[:1])
    assert [e.mask.shape for e in events if e.mask is not None] == [(48, 64)] * 3 + [(30, 40)] * 2
    assert [e.consistency is None for e in events] == [True, False, False, True, False]


@pytest.mark.parametrize("online", [False, True])
def test_an_absent_target_at_an_anchor(online: bool) -> None:
    """The mask is blank, the anchor stays one, and the event says so."""
    model = small_virst(reader=READER)
    shift_score(model, -60.0)
    (events,) = stream(model, clip(4), SAID[:1], online=online)
    assert not any(e.mask.any() for e in events if e.mask is not None)
    assert all(e.object_score is not None and e.object_score < 0 for e in events)
    assert [e.extra.get("absent", False) for e in events] == [e.reason in ("anchor", "first") for e in events]
    assert [e.consistency for e in events] == [None, 1.0, 1.0, 1.0], "two empty masks agree"
    (shown,) = stream(
        model,
        clip(4),
        SAID[:1],
        online=online,
        memory=dict(type="tdau", anchors="recent", blank_absent=False),
    )
    assert any(e.mask.any() for e in shown if e.mask is not None), "a key shows them all the same"
