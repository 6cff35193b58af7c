"""The pipeline against one-shot runs of the same dialogue: when it looks, and at what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from refstream_projects.streamo.compiler import compile_record
from refstream_projects.streamo.states import state_ids
from refstream_projects.streamo.tests.speaker import (
    ASK,
    OTHER,
    QUIET,
    SOME,
    answer_of,
    noise_stream,
    one_shot,
    probabilities,
    said,
    speaking_model,
    stream,
)

from refstream.models.mllm.chat import Turn
from refstream.stream_records import StreamAsk, StreamRecord
from refstream.streaming.session import StreamSession


@pytest.fixture(scope="module")
def model() -> Any:
    return speaking_model(QUIET)


# ---------------------------------------------------------------- the same as in training


def test_the_running_dialogue_equals_the_compiled_one() -> None:
    states = set()
    for system, seed, ask_s in ((None, 0, 3.4), (None, 1, 0.0), ("Watch.", 0, 3.4), ("Watch.", 1, 0.0)):
        model = speaking_model(QUIET, system=system)
        first = int(ask_s)
        record = StreamRecord("v", "qa", (StreamAsk(ASK, ask_s),))
        turns = compile_record(record, model.pipeline().clock, 10.0).turns
        frames = noise_stream(40, seed=seed)
        events = stream(model.pipeline(), frames, [(ASK, ask_s)])
        assert [event.extra["interval"] for event in events] == [turn.label for turn in turns[first:]]
        answers = ["<Silence>"] * first + [answer_of(event) for event in events]
        texts = [turn.user_text() for turn in turns]
        images = [frame.image for frame in frames[::4]]
        expected = one_shot(model, list(zip(texts, answers, strict=True)), images)
        assert torch.allclose(probabilities(events), expected[first:], atol=1e-6)
        states |= {event.extra["state"] for event in events}
    assert states == {"silence", "standby"}


def test_the_pictures_count(model: Any) -> None:
    first, second = (probabilities(stream(model.pipeline(), noise_stream(8, seed=seed))) for seed in (0, 1))
    assert (first - second).abs().max() > 0.01


def test_an_answer_becomes_part_of_the_dialogue(model: Any) -> None:
    """What is generated is seen by the next turn, as one pass over the same tokens shows."""
    pipeline = model.pipeline(policy={"respond": 0.0})
    session = StreamSession(pipeline)
    session.add(ASK)
    frames = noise_stream(12)
    events = [event for frame in frames for event in session.step(frame)]
    assert all(event.text for event in events)
    dialogue = session._states["0"].dialogue
    ids = torch.cat([p.chat.input_ids for s in dialogue.segments for p in s.pieces], dim=1)
    prompts = model.mllm.prompts
    chat = prompts.turns([[Turn(f"{ASK}\n<0s-1s>", None, 1)]])
    base = replace(
        chat,
        input_ids=ids,
        attention_mask=torch.ones_like(ids, dtype=torch.bool),
        image_positions=ids == prompts.ids.image_context,
        labels=torch.full_like(ids, -100),
        image_slots=(12,),
    )
    tokens = model.mllm.encode_images(model.mllm.preprocess([f.image for f in frames[::4]]))
    with torch.no_grad():
        logits = model.mllm.forward_chat(base, tokens, with_logits=True).logits[0]
    at = (ids[0] == state_ids(model.mllm.tokenizer).response).nonzero()[:, 0] - 1
    expected = logits[at][:, list(state_ids(model.mllm.tokenizer).all)].float().softmax(-1)
    assert torch.allclose(probabilities(events), expected, atol=1e-6)
    written = prompts.tokenizer.decode(ids[0].tolist())
    for event in events:
        assert event.text is not None
        assert any(f"<Response>{space}{event.text}" in written for space in ("", " "))


# ---------------------------------------------------------------- when it looks


@pytest.mark.parametrize("rate", [4.0, 23.976, 29.97, 59.94])
@pytest.mark.parametrize("fps", [0.5, 1.0, 2.0])
def test_it_looks_at_the_first_frame_of_each_interval(model: Any, rate: float, fps: float) -> None:
    frames = noise_stream(int(5 * rate), rate)
    pipeline = model.pipeline(fps=fps)
    assert pipeline.fps == fps
    events = stream(pipeline, frames)
    times = [frame.time_s for frame in frames]
    starts = [k / fps for k in range(int(4.9 * fps) + 1)]
    expected = [next(i for i, t in enumerate(times) if t >= start - 1e-3) for start in starts]
    assert [event.frame_index for event in events] == expected
    assert events[1].extra["interval"] == {0.5: "<2s-4s>", 1.0: "<1s-2s>", 2.0: "<0.5s-1s>"}[fps]
    assert all(event.time_s == times[event.frame_index] and event.invoked_mllm for event in events)
    assert all(0 <= event.time_s - k / fps <= 1 / rate for k, event in enumerate(events))


def test_an_interval_without_a_frame_has_no_turn(model: Any) -> None:
    frames = [replace(f, time_s=f.time_s + (7.0 if f.index >= 6 else 0.0)) for f in noise_stream(10)]
    events = stream(model.pipeline(), frames)
    assert [e.extra["interval"] for e in events] == ["<0s-1s>", "<1s-2s>", "<8s-9s>", "<9s-10s>"]


def test_a_frame_is_encoded_once_for_all_queries_and_only_if_needed(model: Any, monkeypatch: Any) -> None:
    seen: list[int] = []
    encode = model.mllm.encode_images

    def counted(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(len(pixels))
        tokens: torch.Tensor = encode(pixels)
        return tokens

    monkeypatch.setattr(model.mllm, "encode_images", counted)
    stream(model.pipeline(), noise_stream(16), [])
    assert seen == []
    stream(model.pipeline(), noise_stream(16), [(ASK, 2.5), (OTHER, 2.5), (ASK, 3.0)])
    assert seen == [3, 1]  # what came before the question together, then one by one


def test_frames_to_come_change_nothing(model: Any) -> None:
    frames, other = noise_stream(24), noise_stream(24, seed=1)
    pipeline = model.pipeline(**SOME)
    asks = [(ASK, None), (OTHER, 1.3), (OTHER, 4.6)]
    whole = said(stream(pipeline, frames, asks))
    for cut in (5, 12, 17):
        changed = said(stream(pipeline, frames[:cut] + other[cut:], asks))
        past = [event for event in whole if event.frame_index < cut]
        assert past == [event for event in changed if event.frame_index < cut]
        assert whole != changed


def test_queries_do_not_disturb_each_other(model: Any) -> None:
    pipeline = model.pipeline(**SOME)
    frames = noise_stream(16)
    asks = [(ASK, None), (OTHER, 1.3), (ASK, 1.3)]
    both = stream(pipeline, frames, asks)
    for number, ask in enumerate(asks):
        alone = said(stream(pipeline, frames, [ask]))
        mine = [replace(e, query_id="0") for e in said(both) if e.query_id == str(number)]
        assert [e.text for e in mine] == [e.text for e in alone]
        assert torch.allclose(probabilities(mine), probabilities(alone), atol=1e-6)


# ---------------------------------------------------------------- questions in mid-stream


def test_a_question_is_put_at_once_into_the_turn_of_its_time(model: Any) -> None:
    asks = [(ASK, 1.6), (OTHER, 1.6), (ASK, 2.0), (ASK, 2.01)]
    events = stream(model.pipeline(), noise_stream(16), asks)
    first = [next(e for e in events if e.query_id == str(n)) for n in range(4)]
    assert [(e.time_s, e.extra["interval"]) for e in first] == [
        (1.75, "<1s-2s>"),
        (1.75, "<1s-2s>"),
        (2.0, "<2s-3s>"),
        (2.25, "<2s-3s>"),
    ]
    assert [e.extra["interval"] for e in events if e.query_id == "0"] == ["<1s-2s>", "<2s-3s>", "<3s-4s>"]


@pytest.mark.parametrize("history", [0, 1, 4])
def test_a_question_between_two_frames_is_put_with_the_older_one(model: Any, history: int) -> None:
    events = stream(model.pipeline(history=history), noise_stream(5, 1.0), [(ASK, 2.5)])
    assert [(e.time_s, e.extra["interval"]) for e in events] == [
        (3.0, "<2s-3s>"),
        (3.0, "<3s-4s>"),
        (4.0, "<4s-5s>"),
    ]


def test_a_question_added_to_a_running_stream_sees_what_was_before(model: Any) -> None:
    """Asked live or known beforehand: the same dialogue; without history another one."""
    frames = noise_stream(24)
    session = StreamSession(model.pipeline(**SOME))
    for frame in frames[:15]:
        session.step(frame)
    session.add(ASK)  # now: 3.5 s
    live = [event for frame in frames[15:] for event in session.step(frame)] + session.close()
    known = stream(model.pipeline(**SOME), frames, [(ASK, 3.51)])
    assert said(live) == said(known)
    assert live[0].extra["interval"] == "<3s-4s>"
    blind = stream(model.pipeline(history=0), frames, [(ASK, 3.51)])
    assert [e.extra["interval"] for e in blind] == [e.extra["interval"] for e in live]
    assert (probabilities(blind)[0] - probabilities(live)[0]).abs().max() > 0.01
    turns = [(f"{ASK}\n<3s-4s>", answer_of(blind[0])), ("<4s-5s>", answer_of(blind[1]))]
    expected = one_shot(model, turns, [frames[12].image, frames[16].image])
    assert torch.allclose(probabilities(blind)[:2], expected, atol=1e-6)


def test_a_question_of_the_last_interval_is_put_when_the_stream_ends(model: Any) -> None:
    frames = noise_stream(15)  # the last one at 3.5 s
    events = stream(model.pipeline(), frames, [(ASK, 3.8)])
    assert [(e.time_s, e.frame_index, e.extra["interval"]) for e in events] == [(3.8, 14, "<3s-4s>")]
    later = stream(model.pipeline(), [*frames, *noise_stream(16)[15:]], [(ASK, 3.7)])
    assert events[0].extra["probabilities"] == pytest.approx(later[0].extra["probabilities"])


def test_a_question_after_the_end_is_named(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert stream(model.pipeline(), noise_stream(8), [(ASK, 2.0), (ASK, 77.0)]) == []
    assert sorted(record.getMessage()[:36] for record in caplog.records) == [
        "query '0' was to be asked at 2.000 s",
        "query '1' was to be asked at 77.000 s"[:36],
    ]
    assert StreamSession(model.pipeline()).close() == []
