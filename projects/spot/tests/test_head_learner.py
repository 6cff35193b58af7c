"""Training and reading through the head: the same signals, gradients where they belong, one pass for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects.spot.geometry import grid_points, point_labels
from refstream_projects.spot.head_learner import SPOTHeadLearner
from refstream_projects.spot.head_reader import HeadReader, inside_frame
from refstream_projects.spot.learner import SPOTLearner

from refstream.data.collate import ClipSample, collate_clips
from refstream.engine.config import load_config
from refstream.engine.model import outline
from refstream.errors import UserError
from refstream.models.mllm.chat import Turn
from refstream.models.mllm.chat_tokens import IGNORE
from refstream.models.modeling import RefStreamModel
from refstream.streaming.session import StreamSession

from .composites import KEYS, TEXT, composite, moving, stream_of

HEAD = dict(type="BoxPointHead", points=9, width=32, heads=4)
TERMS = ("loss_box", "loss_class", "loss_text", "loss_bridge")
ZERO = dict(box_weight=0.0, class_weight=0.0, text_weight=0.0, bridge_weight=0.0)


def headed(**pipeline: Any) -> RefStreamModel:
    return composite(HEAD, reader="head", **pipeline)


@pytest.fixture(scope="module")
def model() -> Any:
    return headed()


def turn(answer: str) -> Turn:
    return Turn(TEXT.ask_box("the red square"), answer, 1)


def learn(model: Any, learner: SPOTLearner, *samples: ClipSample) -> dict[str, torch.Tensor]:
    model.zero_grad()
    losses = learner.losses(model, collate_clips(samples))
    total: Any = sum(value for name, value in losses.items() if name.startswith("loss"))
    total.backward()
    return {name: value.detach() for name, value in losses.items()}


def gradients(model: Any) -> dict[str, torch.Tensor]:
    named = [*model.mllm.named_parameters(prefix="mllm"), *model.head.named_parameters(prefix="head")]
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


def reached(model: Any) -> set[str]:
    """Which parts some gradient reaches."""
    names = [name for name, grad in gradients(model).items() if float(grad.abs().max()) > 0]
    parts = [name.split(".")[:2] for name in names]
    return {
        "mllm" if first == "mllm" else "box" if second == "box_layers" else "points"
        for first, second in parts
    }


@pytest.mark.parametrize(
    ("weight", "parts"),
    [
        ("box", {"mllm", "box"}),
        ("bridge", {"mllm", "box"}),
        ("class", {"mllm", "points"}),
        ("text", {"mllm"}),
    ],
)
def test_each_loss_reaches_its_part_of_the_head_and_the_mllm(model, weight, parts) -> None:
    loss = dict(ZERO, type="SPOTLoss")
    loss[f"{weight}_weight"] = 1.0
    losses = learn(model, SPOTHeadLearner(loss=loss), moving(8, hidden=(3,)))
    assert float(losses[f"loss_{weight}"]) > 0
    assert reached(model) == parts


@pytest.mark.parametrize("keys", [dict(frames_at_once=1), dict(frames_at_once=3, recompute=True)])
def test_a_segment_in_pieces_is_the_whole_segment(model, keys) -> None:
    samples = (moving(8, hidden=(5,)), moving(8, hidden=(0,), expression="the blue square"))
    whole = learn(model, SPOTHeadLearner(), *samples)
    expected = gradients(model)
    pieces = learn(model, SPOTHeadLearner(**keys), *samples)
    for name in TERMS:
        assert float(pieces[name]) == pytest.approx(float(whole[name]), rel=1e-5)
    for name, grad in gradients(model).items():
        scale = max(float(expected[name].abs().max()), 1.0)
        torch.testing.assert_close(grad, expected[name], rtol=0, atol=2e-6 * scale, msg=name)


def test_without_an_object_the_refusal_alone_is_learned(model) -> None:
    losses = learn(model, SPOTHeadLearner(), moving(4, hidden=(0, 1, 2, 3)))
    assert [float(losses[name]) for name in ("loss_box", "loss_class", "loss_bridge")] == [0, 0, 0]
    assert float(losses["loss_text"]) > 0
    assert "box_iou" not in losses
    grads = [p.grad for p in model.head.parameters()]
    assert all(grad is not None and float(grad.abs().max()) == 0 for grad in grads)


def test_the_text_is_the_cross_entropy_of_the_answers(model) -> None:
    """Where an object is seen, of [SEG] and the turn's end; else of the refusal and the turn's end."""
    batch, learner, mllm = collate_clips([moving(2, hidden=(1,))]), SPOTHeadLearner(), model.mllm
    with torch.no_grad():
        (segment,) = learner.segments(model, batch, TEXT)
        heard, _ = learner.hear(model, segment.frames, learner.vision(model, batch), TEXT)
        for t, (signals, answer) in enumerate(zip(heard, ("[SEG]", TEXT.refusal), strict=True)):
            chat = mllm.prompts.turns([[turn(answer)]])
            ids = chat.labels[0][chat.labels[0] != IGNORE]
            tokens = model.vision_tokens([batch.frames[0][t]])[0]
            logits = mllm.logits(mllm.forward_chat(chat, tokens).hidden)[0, -len(ids) - 1 : -1]
            expected = -logits.log_softmax(-1)[torch.arange(len(ids)), ids]
            torch.testing.assert_close(signals.token_losses, expected, atol=1e-4, rtol=1e-4)
            assert not signals.is_point.any()
            assert len(signals.boxes) == len(signals.z) == 1 - t


def test_the_reader_sees_what_the_learner_saw(model) -> None:
    """Boxes, points and judgements of the same frames, in training with other rows, at inference alone."""
    batch = collate_clips([moving(3), moving(3, expression="a much longer name of the blue square")])
    learner = SPOTHeadLearner(grid="prediction")
    reader = HeadReader(model, text=KEYS)
    reader.answers = (reader.answers[0], reader.answers[0])  # it is always there
    with torch.no_grad():
        vision = learner.vision(model, batch)
        segments = learner.regridded(model, learner.segments(model, batch, TEXT), vision, TEXT)
        looked = [frame for segment in segments for frame in segment.frames]
        heard, _ = learner.hear(model, looked, vision, TEXT)
        for frame, signals in zip(looked, heard, strict=True):
            (reading,) = reader.read(vision[frame.image][None], [frame.exchange.expression])
            (found,) = reading.objects
            torch.testing.assert_close(found.box, inside_frame(signals.boxes)[0].float(), atol=1e-6, rtol=0)
            torch.testing.assert_close(found.p_yes, signals.z[0].sigmoid().float(), atol=1e-6, rtol=0)
            torch.testing.assert_close(found.p_no, 1 - found.p_yes, atol=1e-6, rtol=0)
            torch.testing.assert_close(signals.points, grid_points(signals.boxes, 3))
            assert torch.equal(reading.reply.boxes[0], found.box)
            assert reading.text == "[SEG]"


def test_labels_are_those_of_the_jittered_grid(model) -> None:
    sample = moving(3)
    learner = SPOTHeadLearner()
    for t, frame in enumerate(learner.segments(model, collate_clips([sample]), TEXT)[0].frames):
        mask = torch.from_numpy(sample.masks[0, t])
        assert torch.equal(frame.exchange.labels[0], point_labels(mask, frame.exchange.points[0]))


def test_several_expressions_side_by_side_are_read_as_alone(model) -> None:
    reader = HeadReader(model, text=KEYS)
    said = ["the red square", "the blue square", "a far longer expression than the other two"]
    tokens = model.vision_tokens([moving(1).frames[0]])[0]
    together = reader.read(tokens, said)
    for one, expression in zip(together, said, strict=True):
        (alone,) = reader.read(tokens, [expression])
        assert one.text == alone.text
        assert len(one.objects) == len(alone.objects)
        for a, b in zip(one.objects, alone.objects, strict=True):
            torch.testing.assert_close(a.box, b.box)
            torch.testing.assert_close(a.p_yes, b.p_yes)


@pytest.mark.parametrize("there", [True, False])
def test_the_words_say_whether_it_is_there(there) -> None:
    """The language model prefers [SEG] to the refusal's first token, or the other way round."""
    model = headed()
    reader = HeadReader(model, text=KEYS)
    with torch.no_grad():
        rows = model.mllm.model.lm_head.weight
        rows[list(reader.answers)] = 0.0
        tokens = model.vision_tokens([moving(1).frames[0]])[0]
        chat = model.mllm.prompts.turns([[turn("[SEG]")]])
        first = int((chat.labels[0] != IGNORE).nonzero()[0])
        state = model.mllm.forward_chat(chat, tokens).hidden[0, first - 1]
        rows[reader.answers[0 if there else 1]] = state
    (reading,) = reader.read(tokens, ["the red square"])
    assert reading.reply.refused == (not there)
    assert reading.text == ("[SEG]" if there else TEXT.refusal)
    assert len(reading.objects) == there


def test_boxes_are_brought_into_the_frame() -> None:
    boxes = torch.tensor([[-0.3, 0.2, 0.4, 1.3], [1.0, 1.0, 1.0, 1.0], [-0.2, 0.5, 0.0, 0.5]])
    inside = inside_frame(boxes)
    assert inside[0].tolist() == pytest.approx([0, 0.2, 0.4, 1])
    assert bool(((inside >= 0) & (inside <= 1)).all())
    assert bool((inside[:, 2:] - inside[:, :2] >= 1e-3 - 1e-6).all())


def test_the_pipeline_runs_and_travels(model, tmp_path: Path) -> None:
    """A folder with the head in it loads, and the pipeline that it names gives the same events."""
    model.save(tmp_path)
    loaded = RefStreamModel.from_pretrained(tmp_path, dtype=torch.float64)
    events = []
    for one in (model, loaded):
        pipeline = one.pipeline(p_yes=0.5, p_no=0.5)
        pipeline.reader.answers = (pipeline.reader.answers[0],) * 2
        session = StreamSession(pipeline)
        session.open(["the red square", "the blue square"])
        events.append([e for frame in stream_of(moving(3)) for e in session.step(frame)] + session.close())
    assert len(events[0]) == 6
    for a, b in zip(*events, strict=True):
        assert len(a.extra["boxes"]) == 1
        ((on, off),) = a.extra["points"]
        assert on + off == (0 if a.extra.get("fallback") == ["box"] else 9)
        assert (a.extra, a.text) == (b.extra, b.text)
        np.testing.assert_array_equal(a.mask, b.mask)


def test_boxes_alone(model) -> None:
    reader = HeadReader(model, text=KEYS, points=False)
    reader.answers = (reader.answers[0],) * 2
    (reading,) = reader.read(model.vision_tokens([moving(1).frames[0]])[0], ["x"])
    assert len(reading.objects[0].points) == len(reading.objects[0].p_yes) == 0


def test_models_that_do_not_fit(model) -> None:
    with pytest.raises(UserError, match=r"this one has SegTokenHead: train one with"):
        composite().pipeline(reader="head")
    with pytest.raises(UserError, match="reader must be one of"):
        model.pipeline(reader="eyes")
    with pytest.raises(UserError, match="judges 9 points, the grid of 5 x 5 has 25"):
        model.pipeline(text=dict(KEYS, grid=5))
    with pytest.raises(UserError, match="frame_tokens must be one of"):
        model.pipeline(frame_tokens=3)
    with pytest.raises(UserError, match="p_yes must lie"):
        model.pipeline(p_yes=1.5)
    with pytest.raises(UserError, match=r"'\[BOX\]', which is no token of its own in answers"):
        composite(dict(HEAD, answer="[BOX]"), reader="head").pipeline()
    with pytest.raises(UserError, match=r"some \d+ tokens, the language model takes 512"):
        model.pipeline(text=dict(KEYS, box_question="where is {expression}" + " x" * 600))


def test_the_learner_checks_before_training(model) -> None:
    SPOTHeadLearner().prepare(model)
    with pytest.raises(UserError, match='set reader="head" there'):
        SPOTHeadLearner().prepare(composite(HEAD))
    with pytest.raises(UserError, match="judges 9 points"):
        SPOTHeadLearner(text=dict(KEYS, grid=4)).prepare(model)
    tokens, targets = SPOTHeadLearner().clip_tokens(model, "the red square", 8)
    assert targets == 8 * 2  # [SEG] and the end of its turn
    assert tokens < SPOTLearner().clip_tokens(model, "the red square", 8)[0] / 2


@pytest.mark.parametrize("name", ["tiny_head_stills", "tiny_head"])
def test_the_tiny_configs_train_the_head_too(name: str) -> None:
    config = load_config(Path(__file__).resolve().parents[1] / "configs" / f"{name}.py")
    training = outline(config.model.to_dict())
    assert isinstance(training.learner, SPOTHeadLearner)
    names = [name for name, p in training.model.named_parameters() if p.requires_grad]
    assert {name.split(".")[0] for name in names} == {"mllm", "head"}
    assert all(p.requires_grad for p in training.model.head.parameters())
    text = training.learner.format(training.model)
    assert training.model.head.num_points == text.num_points == 25
    loss = training.learner.loss
    paper = (1, 1, 0.5, 0.1, "sum")
    own = (loss.box_weight, loss.class_weight, loss.text_weight, loss.bridge_weight, loss.class_reduction)
    assert (own == paper) == (name == "tiny_head")


@pytest.mark.slow
def test_it_learns_what_the_reader_then_reads() -> None:
    """Four frames by heart, one of them empty."""
    model = headed().float().train()
    sample = moving(4, hidden=(2,))
    learner, batch = SPOTHeadLearner(grid="truth"), collate_clips([sample])
    parameters = [*model.mllm.parameters(), *model.head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=2e-3)
    values = []
    for _ in range(200):
        optimizer.zero_grad()
        losses = learner.losses(model, batch)
        total: Any = sum(losses[name] for name in TERMS)
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        values.append(float(total.detach()))
    assert values[-1] < 0.01 * values[0]
    model.eval()
    reader = HeadReader(model, text=KEYS)
    for frame in learner.segments(model, batch, TEXT)[0].frames:
        with torch.no_grad():
            seen = model.vision_tokens([sample.frames[frame.image]])[0]
        (reading,) = reader.read(seen, sample.expressions)
        assert reading.reply.refused == (frame.image == 2)
        for found in reading.objects:
            torch.testing.assert_close(found.box, frame.exchange.boxes[0], atol=0.02, rtol=0)
            assert (found.p_yes > 0.5).long().tolist() == frame.exchange.labels[0].tolist()
