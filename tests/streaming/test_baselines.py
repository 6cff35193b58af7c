"""The untrained baselines: spoken boxes, and [SEG] prompts that are propagated."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from refstream.errors import UserError
from refstream.streaming.session import StreamSession
from refstream.structures import Frame, SegPrompt, StreamEvent
from refstream.testing import moving_square_video, say, small_model

FRAMES, _ = moving_square_video(6)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return small_model(dict(type="StreamingRVOS", reprompt=False), words="the red square")


def run(model: Any, frames: list[Frame] = FRAMES, **keys: Any) -> list[StreamEvent]:
    session = StreamSession(model.pipeline(**keys))
    session.open(["the red square"])
    return [event for frame in frames for event in session.step(frame)] + session.close()


def says(model: Any, monkeypatch: pytest.MonkeyPatch, *texts: str) -> list[Any]:
    """Let the MLLM give these answers, the last one for ever; what it is asked is kept."""
    asked: list[Any] = []

    def generate(chat: Any, tokens: Any, **keys: Any) -> Any:
        asked.append((model.mllm.tokenizer.decode(chat.input_ids[0]), tokens.shape))
        return SimpleNamespace(text=texts[min(len(asked) - 1, len(texts) - 1)])

    monkeypatch.setattr(model.mllm, "generate", generate)
    return asked


def boxed(model: Any, corners: list[float], t: int) -> np.ndarray:
    with torch.inference_mode():
        image = model.segmenter.encode(model.segmenter.preprocess([FRAMES[t].image]))
        found = model.segmenter.decode(image, SegPrompt(box_xyxy=torch.tensor([corners])))
        full = F.interpolate(found.mask_logits[None], FRAMES[t].size, mode="bilinear")
    return (full[0, 0] > 0).numpy()


def test_a_spoken_box_goes_straight_into_the_segmenter(model, monkeypatch) -> None:
    asked = says(model, monkeypatch, "<box>[[250, 500, 750, 1000]]</box>")
    events = run(model, type="SpokenBox")
    assert len(asked) == len(events) == 6
    assert "the red square" in asked[0][0]
    assert "bounding box" in asked[0][0]
    for t, event in enumerate(events):
        np.testing.assert_array_equal(event.mask, boxed(model, [16.0, 32.0, 48.0, 64.0], t))
        assert event.extra == {"boxes": [[0.25, 0.5, 0.75, 1.0]]}
        assert event.invoked_mllm


def test_pixels_are_those_of_the_frame(model, monkeypatch) -> None:
    says(model, monkeypatch, "[16, 32, 48, 64]")
    event = run(model, type="SpokenBox", units="pixels")[0]
    assert event.extra == {"boxes": [[0.25, 0.5, 0.75, 1.0]]}


def test_the_box_of_the_first_frame_is_carried_on_by_the_memory(model, monkeypatch) -> None:
    asked = says(model, monkeypatch, "[250,500,750,1000]")
    first = dict(type="FirstFrameGate")
    carried = run(model, type="SpokenBox", gate=first, memory="on")
    assert len(asked) == 1
    assert [event.invoked_mllm for event in carried] == [True] + [False] * 5
    held = run(model, type="SpokenBox", gate=first)
    np.testing.assert_array_equal(held[3].mask, boxed(model, [16.0, 32.0, 48.0, 64.0], 3))
    assert any((a.mask != b.mask).any() for a, b in zip(held[1:], carried[1:], strict=True))


def test_without_a_box_the_one_of_before_stays(model, monkeypatch) -> None:
    says(model, monkeypatch, "nothing", "[250,500,750,1000]", "nothing")
    events = run(model, type="SpokenBox")
    assert not events[0].mask.any()
    assert events[0].extra == {"no_box": True}
    np.testing.assert_array_equal(events[2].mask, boxed(model, [16.0, 32.0, 48.0, 64.0], 2))


def test_a_refusal_is_an_empty_mask_where_it_is_known_as_one(model, monkeypatch) -> None:
    texts = ("[[250, 500, 750, 1000]]", "no object found<|im_end|>", "it is gone")
    says(model, monkeypatch, *texts)
    first, second, third, *_ = run(model, type="SpokenBox", refusal="No object found.")
    assert first.mask.any()
    assert (second.extra, second.mask.any()) == ({"refused": True}, False)
    assert second.text == "no object found"
    assert (third.extra, third.mask.any()) == ({"no_box": True}, False)
    says(model, monkeypatch, *texts)
    kept = run(model, type="SpokenBox")[1]
    assert kept.extra == {"no_box": True}
    np.testing.assert_array_equal(kept.mask, boxed(model, [16.0, 32.0, 48.0, 64.0], 1))


def test_a_gate_that_judges_masks_asks_again_where_there_is_none(model, monkeypatch) -> None:
    says(model, monkeypatch, "nothing", "[250,500,750,1000]")
    gate = dict(type="ConsistencyGate", tau1=0.0, tau2=0.0)
    reasons = [event.reason for event in run(model, type="SpokenBox", gate=gate)]
    assert reasons == ["first", "absent", "reliable", "reliable", "reliable", "reliable"]


def test_a_random_model_really_speaks(model) -> None:
    events = run(model, FRAMES[:2], type="SpokenBox", max_new_tokens=4)
    assert [event.text is None for event in events] == [False, False]


@pytest.mark.parametrize(
    ("said", "corners"),
    [
        ("[250,500,750,1000]", [0.25, 0.5, 0.75, 1.0]),
        ("[-250,500,1750,9999]", [0.0, 0.5, 1.0, 1.0]),
        ("[1200,500,1500,900]", None),  # outside of the frame
        ("[250,500,250,900]", None),  # no area
        ("[750,500,250,900]", None),  # corners in the wrong order
        ("[1234567890,0,2345678901,9]", None),
        ("[" + "9" * 400 + ",0,1,1]", None),
        ("I see none.", None),
        ("", None),
        ("[[[[,,,]", None),
    ],
)
@pytest.mark.parametrize("memory", ["off", "on"])
def test_whatever_is_said(model, said, corners, memory) -> None:
    """By a script in the MLLM's place: prompts, generation and parser are real."""
    say(model.mllm, lambda dialogue, seen: said)
    events = run(model, FRAMES[:2], type="SpokenBox", memory=memory, max_new_tokens=500)
    for event in events:
        if corners is None:
            assert event.extra == {"no_box": True}
            assert not event.mask.any()
        else:
            assert event.extra == {"boxes": [corners]}
    if corners is not None:
        np.testing.assert_array_equal(events[0].mask, boxed(model, [64 * x for x in corners], 0))


def test_more_boxes_than_are_used(model) -> None:
    say(model.mllm, lambda dialogue, seen: " ".join(f"[{n},0,{n + 100},900]" for n in range(5)))
    (event,) = run(model, FRAMES[:1], type="SpokenBox", max_objects=2, max_new_tokens=200)
    assert event.extra == {"boxes": [[0.0, 0.0, 0.1, 0.9], [0.001, 0.0, 0.101, 0.9]]}


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (64, 64)])
@pytest.mark.parametrize(
    "keys",
    [
        dict(type="SpokenBox"),
        dict(type="SpokenBox", memory="on"),
        dict(type="SegPropagation"),
        dict(type="SegPropagation", joint=True),
    ],
)
def test_one_frame_of_any_size(model, size, keys) -> None:
    if keys["type"] == "SpokenBox":
        say(model.mllm, lambda dialogue, seen: "[250,500,750,1000]")
    frame = Frame(0, 0.0, np.full((*size, 3), 90, dtype=np.uint8))
    (event,) = run(model, [frame], **keys)
    assert event.mask.shape == size
    assert event.invoked_mllm


def test_another_pipeline_takes_none_of_the_models_keys(model) -> None:
    assert "reprompt" in model.config.pipeline
    assert type(model.pipeline(type="SpokenBox")).__name__ == "SpokenBox"
    assert not model.pipeline().reprompt


@pytest.mark.parametrize(
    "keys",
    [
        dict(units="miles"),
        dict(question="where?"),
        dict(max_objects=0),
        dict(memory="x"),
        dict(conditioning="x"),
        dict(multimask="no"),
        dict(gate="always"),
    ],
)
def test_bad_keys_of_spoken_boxes(model, keys) -> None:
    with pytest.raises(UserError):
        model.pipeline(type="SpokenBox", **keys)


# ---------------------------------------------------------------- propagation


def by_hand(model: Any, looks: int, joint: bool) -> list[np.ndarray]:
    """[SEG] of the first frames, then the segmenter's memory, without the pipeline."""
    segmenter, masks = model.segmenter, []
    memory = segmenter.new_memory("sam2")

    def prompt(frames: list[Frame]) -> SegPrompt:
        chat = model.chat(["the red square"], num_images=len(frames))
        tokens = torch.cat(model.vision_tokens([frame.image for frame in frames]))
        return model.head(model.seg_states(model.mllm.forward_chat(chat, tokens), chat))

    with torch.no_grad():
        shared = prompt(FRAMES[:looks]) if joint else None
        for t, frame in enumerate(FRAMES):
            image = segmenter.encode(segmenter.preprocess([frame.image]))
            look = t < looks
            given = (shared or prompt([frame])) if look else None
            keys: dict[str, Any] = dict(frame_index=t, is_conditioning=look)
            found = segmenter.decode(image, given, memory=memory, **keys)
            segmenter.remember(image, found, memory, **keys)
            full = F.interpolate(found.mask_logits[None], frame.size, mode="bilinear")
            masks.append((full[0, 0] > 0).numpy())
    return masks


@pytest.mark.parametrize("joint", [False, True])
def test_prompts_of_the_first_frames_are_propagated(model, joint) -> None:
    events = run(model, type="SegPropagation", looks=2, joint=joint)
    for event, expected in zip(events, by_hand(model, 2, joint), strict=True):
        np.testing.assert_array_equal(event.mask, expected)
    assert [event.invoked_mllm for event in events] == [True, True, False, False, False, False]


def test_seen_together_they_are_answered_at_the_end(model) -> None:
    pipeline = model.pipeline(type="SegPropagation", joint=True, max_frames=3)
    assert not pipeline.causal
    session = StreamSession(pipeline)
    session.open(["the red square"])
    assert [session.step(frame) for frame in FRAMES[:3]] == [[], [], []]
    with pytest.raises(ValueError, match="buffers at most 3"):
        session.step(FRAMES[3])
    assert len(session.close()) == 3
    with pytest.raises(ValueError, match="a live source"):
        StreamSession(pipeline, live=True)
    assert model.pipeline(type="SegPropagation").causal


@pytest.mark.parametrize("keys", [dict(memory="off"), dict(looks=0), dict(max_frames=0)])
def test_bad_keys_of_propagation(model, keys) -> None:
    with pytest.raises(UserError, match="propagation needs a memory"):
        model.pipeline(type="SegPropagation", **keys)
