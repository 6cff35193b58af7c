"""The pipeline: what it does with good, bad and missing answers, with points, memory and gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects.spot.geometry import mask_box
from refstream_projects.spot.pipeline import SPOT, seg_prompt
from refstream_projects.spot.reader import Found, Reading, SpotReader

from refstream.errors import UserError
from refstream.streaming.session import StreamSession
from refstream.structures import StreamEvent

from .composites import KEYS, TEXT, composite, moving, stream_of

BOX = "[100,200,400,700]"
OTHER = "[500,100,900,450]"


def found(box: torch.Tensor, points: int = 2) -> Found:
    grid = TEXT.points(box)[:points]
    labels = (torch.arange(points) % 2 == 0).long()
    return Found(box, grid, labels, torch.zeros(0), torch.zeros(0))


class Said:
    """A reader that says what a script has for each look; counts its looks."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.looks = texts, 0

    def read(
        self, vision_tokens: torch.Tensor, expressions: Sequence[str], before: Any = None
    ) -> list[Reading]:
        text = self.texts[min(self.looks, len(self.texts) - 1)]
        self.looks += 1
        reply = TEXT.read_boxes(text)
        return [Reading(text, reply, [found(box) for box in reply.boxes]) for _ in expressions]


@pytest.fixture(scope="module")
def model() -> Any:
    return composite()


def run(
    model: Any, *texts: str, frames: int = 4, expressions: Sequence[str] = ("x",), **keys: Any
) -> list[StreamEvent]:
    pipeline = model.pipeline(**keys)
    if texts:
        pipeline.reader = Said(*texts)
    session = StreamSession(pipeline)
    session.open(list(expressions))
    return [event for frame in stream_of(moving(frames)) for event in session.step(frame)] + session.close()


def segmented(model: Any, objects: list[Found], t: int) -> np.ndarray:
    """The mask of prompts on a frame, straight from the segmenter."""
    with torch.inference_mode():
        image = model.segmenter.encode(model.segmenter.preprocess([moving(4).frames[t]]))
        logits = model.segmenter.decode(image, seg_prompt(objects, 64)).mask_logits.amax(0)
        full = torch.nn.functional.interpolate(logits[None, None], (64, 64), mode="bilinear")
    return (full[0, 0] > 0).numpy()


def test_boxes_and_points_go_into_the_segmenter_as_pixels_of_its_square() -> None:
    one = found(torch.tensor([0.25, 0.5, 0.75, 1.0]), points=3)
    prompt = seg_prompt([one], 64)
    assert prompt.box_xyxy.tolist() == [[16, 32, 48, 64]]
    assert torch.allclose(prompt.points_xy[0], TEXT.points(one.box)[:3] * 64)
    assert prompt.point_labels.tolist() == [[1, 0, 1]]
    bare = seg_prompt([found(one.box, 0)], 64)
    assert bare.points_xy is None
    mixed = seg_prompt([one, found(one.box, 1), found(one.box, 0)], 64)
    assert mixed.point_labels.tolist() == [[1, 0, 1], [1, -1, -1], [-1, -1, -1]]


def test_every_frame_is_prompted_by_what_was_said_of_it(model) -> None:
    events = run(model, BOX, OTHER)
    assert [event.invoked_mllm for event in events] == [True] * 4
    for t, event in enumerate(events):
        box = TEXT.read_boxes(BOX if t == 0 else OTHER).boxes[0]
        assert event.extra["boxes"] == [[pytest.approx(float(x), abs=1e-4) for x in box]]
        assert event.extra["points"] == [[1, 1]]
        np.testing.assert_array_equal(event.mask, segmented(model, [found(box)], t))
        assert event.text == (BOX if t == 0 else OTHER)


def test_several_objects_are_one_mask(model) -> None:
    (event, *_) = run(model, f"{BOX} {OTHER}")
    both = [found(TEXT.read_boxes(one).boxes[0]) for one in (BOX, OTHER)]
    np.testing.assert_array_equal(event.mask, segmented(model, both, 0))
    union = segmented(model, both[:1], 0) | segmented(model, both[1:], 0)
    assert (event.mask != union).mean() < 0.02  # logits are joined before they are enlarged


def test_a_refusal_is_an_empty_mask(model) -> None:
    events = run(model, BOX, "No object found.", BOX)
    assert events[1].extra == {"refused": True}
    assert not events[1].mask.any()
    assert events[1].pred_iou == 0.0
    assert events[2].extra["boxes"] == events[0].extra["boxes"]


@pytest.mark.parametrize("bad", ["hello", "[1,2]", "[400,700,100,200]", "[100,200,100,700]", ""])
def test_an_answer_without_a_box_takes_the_box_of_before(model, bad) -> None:
    events = run(model, BOX, bad)
    assert events[1].extra["problem"]
    assert events[1].extra["fallback"] == ["previous"]
    assert events[1].extra["unspoken"]
    assert "unspoken" not in events[0].extra
    assert events[1].extra["points"] == [[0, 0]]
    bare = found(TEXT.read_boxes(BOX).boxes[0], points=0)
    np.testing.assert_array_equal(events[1].mask, segmented(model, [bare], 1))


def test_what_was_refused_does_not_come_back(model) -> None:
    *_, last = run(model, BOX, "No object found.", "hello", frames=3)
    assert last.extra["boxes"] == []
    assert not last.mask.any()


def test_without_a_box_of_before_the_mask_is_empty(model) -> None:
    first, second, *_ = run(model, "hello", BOX)
    assert not first.mask.any()
    assert first.extra["problem"]
    assert second.extra["boxes"]


@pytest.mark.parametrize(("rule", "boxes"), [("empty", []), ("full", [[0, 0, 1, 1]])])
def test_other_rules_for_an_answer_without_a_box(model, rule, boxes) -> None:
    events = run(model, BOX, "hello", unparsable=rule)
    assert events[1].extra["boxes"] == boxes
    assert rule == "full" or not events[1].mask.any()


def test_gates_skip_the_mllm_and_old_prompts_serve_again(model) -> None:
    events = run(model, BOX, OTHER, frames=4, gate=dict(type="EveryKGate", k=2))
    assert [event.invoked_mllm for event in events] == [True, False, True, False]
    box = TEXT.read_boxes(BOX).boxes[0]
    np.testing.assert_array_equal(events[1].mask, segmented(model, [found(box)], 1))
    assert events[1].text is None
    assert events[1].extra == {}


def test_a_gate_that_judges_masks_looks_where_there_is_none(model) -> None:
    gate = dict(type="ConsistencyGate", tau1=0.0, tau2=0.0)
    events = run(model, "No object found.", BOX, frames=4, gate=gate)
    assert [event.reason for event in events] == ["first", "absent", "reliable", "reliable"]


def test_with_a_memory_the_segmenter_follows_by_itself(model) -> None:
    keys: dict[str, Any] = dict(frames=4, gate=dict(type="FirstFrameGate"))
    off, on = run(model, BOX, **keys), run(model, BOX, memory="on", **keys)
    np.testing.assert_array_equal(off[0].mask, on[0].mask)
    assert [event.invoked_mllm for event in on] == [True, False, False, False]
    assert any((a.mask != b.mask).any() for a, b in zip(off[1:], on[1:], strict=True))


def test_prompts_may_be_read_with_the_memory_or_start_anew(model) -> None:
    off = run(model, BOX, OTHER)
    with_memory = run(model, BOX, OTHER, memory="on")
    anew = run(model, BOX, OTHER, memory=dict(type="sam2", blank_absent=False), conditioning="always")
    for a, b in zip(off, anew, strict=True):  # a prompted frame that starts anew does not read the memory
        np.testing.assert_array_equal(a.mask, b.mask)
    assert any((a.mask != b.mask).any() for a, b in zip(off[1:], with_memory[1:], strict=True))


def test_a_memory_is_bounded(model) -> None:
    pipeline = model.pipeline(memory="on")
    pipeline.reader = Said(BOX)
    session = StreamSession(pipeline)
    session.open(["x"])
    (state,) = session._states.values()
    sizes = []
    for frame in stream_of(moving(40)):
        session.step(frame)
        sizes.append(len(state.track.remembered.entries()))
    assert sizes[-1] == sizes[-10] <= 17


def test_the_real_reader_answers_alone_as_side_by_side(model) -> None:
    """Random weights never say a box: all that is asked here is one sound event per query and frame."""
    together = run(model, frames=2, expressions=["the red square", "the blue square"], max_new_tokens=6)
    assert [event.query_id for event in together] == ["0", "1"] * 2
    for number, text in enumerate(("the red square", "the blue square")):
        alone = run(model, frames=2, expressions=[text], max_new_tokens=6)
        for a, b in zip(together[number::2], alone, strict=True):
            assert (a.text, a.extra) == (b.text, b.extra)
            np.testing.assert_array_equal(a.mask, b.mask)


# ---------------------------------------------------------------- the filter


def filtered(model: Any, p_yes: Sequence[float], p_no: Sequence[float], **keys: Any) -> Found:
    reader = SpotReader(model, text=KEYS, **keys)
    box = torch.tensor([0.0, 0.0, 0.9, 0.9])
    yes, no = torch.full((9,), 0.5), torch.full((9,), 0.5)
    yes[: len(p_yes)], no[: len(p_no)] = torch.tensor(p_yes), torch.tensor(p_no)
    return reader._filtered(box, TEXT.points(box), yes, no)


def test_points_that_are_not_sure_are_left_out(model) -> None:
    kept = filtered(model, [0.8, 0.05, 0.7], [0.1, 0.95, 0.3])
    assert kept.labels.tolist() == [1, 0]
    assert torch.equal(kept.points, TEXT.points(kept.box)[:2])
    assert kept.fallback == ""


def test_without_foreground_the_best_point_stands_for_it(model) -> None:
    best = filtered(model, [0.3, 0.6], [0.95, 0.2])
    assert (best.labels.tolist(), best.fallback) == ([0, 1], "best")
    assert torch.equal(best.points[1], TEXT.points(best.box)[1])


def test_or_the_box_alone(model) -> None:
    nothing = [0.1] * 9
    for found_ in (
        filtered(model, nothing, [0.95] * 9),  # even the best is rather no
        filtered(model, [0.3, 0.6], [0.95, 0.2], no_foreground="box"),
    ):
        assert (len(found_.points), found_.fallback) == (0, "box")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (dict(p_yes=1.5), "p_yes must lie"),
        (dict(no_foreground="x"), "no_foreground"),
        (dict(unparsable="x"), "unparsable must be one of"),
        (dict(points="off"), "points must be True or False, got 'off'"),
        (dict(memory="maybe"), "memory must be one of"),
        (dict(conditioning="x"), "conditioning must be one of"),
        (dict(max_objects=0), "at least 1"),
        (dict(frame_tokens=3), "frame_tokens must be one of"),
        (dict(text=dict(colour="red")), "text has no keys"),
        (dict(text=dict(grid=0)), "a grid"),
        (dict(text=dict(KEYS, grid=9)), "takes 512"),
        (dict(text=dict(yes="Yes", no="No")), "not one token each"),
    ],
)
def test_bad_keys(model, keys, message) -> None:
    with pytest.raises(UserError, match=message):
        model.pipeline(**keys)


def test_a_model_that_only_speaks_is_refused() -> None:
    speaker = composite()
    speaker.segmenter = None
    with pytest.raises(UserError, match="no segmenter"):
        SPOT(speaker, text=KEYS)


def test_the_box_of_a_true_mask_comes_back() -> None:
    """What is said of a mask in thousandths prompts the same pixels, to a thousandth of the side."""
    mask = torch.from_numpy(moving(4).masks[0, 2])
    box = mask_box(mask)
    assert box is not None
    said = TEXT.read_boxes(TEXT.say_boxes(box[None])).boxes[0]
    assert float((said - box).abs().max()) <= 0.0005 + 1e-6
