"""The learner on a small random model: what is supervised, what gets gradients, what sums are divided by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects.virst import VIRSTLearner
from refstream_projects.virst.anchors import MiniClip
from refstream_projects.virst.pretraining import PromptedClipLearner, box_tokens
from refstream_projects.virst.tracker import track

from refstream.data.collate import ClipBatch, ClipSample, collate_clips
from refstream.engine.model import TrainingModel, freeze_all_but
from refstream.errors import UserError
from refstream.models.segmenter.prompts import embed_points
from refstream.testing.small import MLLM, SAM2

HEAD = dict(
    type="SpatioTemporalFusion", num_tokens=3, map_size=4, grid=2, num_heads=4, initial_heads=4, dropout=0.0
)
MEMORY = [
    "segmenter.model.memory_*",
    "segmenter.model.no_object_pointer",
    "segmenter.model.object_pointer_proj.*",
]
COUNT = dict(type="uniform", alpha=2)


def training(**keys: Any) -> TrainingModel:
    torch.manual_seed(0)
    learner = keys.pop("learner", dict(type="VIRSTLearner"))
    model = dict(
        mllm=dict(type="InternVL", config=MLLM),
        segmenter=dict(type="Sam2Segmenter", config=SAM2),
        head=HEAD,
        pipeline=dict(type="VIRST", reader=dict(frame_tokens=1, max_mllm_frames=4)),
    )
    return TrainingModel(model, learner, **{"trainable": ["head.*"], **keys}).train()


def clip(num_frames: int = 6, name: str = "a", shown: bool = True, expressions: int = 2) -> ClipSample:
    rng = np.random.default_rng(num_frames)
    masks = np.zeros((expressions, num_frames, 64, 64), bool)
    if shown:
        for e in range(expressions):
            masks[e, :, 8 + 16 * e : 30 + 16 * e, 10:40] = True
    frames = rng.integers(0, 256, (num_frames, 64, 64, 3), dtype=np.uint8)
    return ClipSample(frames, ["the red circle", "the blue square"][:expressions], masks, name)


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack([value for name, value in losses.items() if "loss" in name]).sum()


def batch(*samples: ClipSample) -> ClipBatch:
    return collate_clips(samples or [clip()])


# ---------------------------------------------------------------- what is supervised


def test_anchors_alone_or_with_their_neighbours() -> None:
    plan = VIRSTLearner(anchors=COUNT).plan
    assert plan(batch(clip(12))) == MiniClip((0, 11), (0, 1))
    plan = VIRSTLearner(anchors=COUNT, supervise="clip").plan
    # 0, its five followers; 11, the two before it
    assert plan(batch(clip(12))) == MiniClip((0, 1, 2, 3, 4, 5, 9, 10, 11), (0, 8))
    assert plan(batch(clip(1))) == MiniClip((0,), (0,))


def test_order_of_time_begins_at_the_first_anchor() -> None:
    for seed in range(30):
        one = batch(clip(12, f"clip {seed}"))
        early = VIRSTLearner(supervise="clip", order="first_anchor").plan(one)
        late = VIRSTLearner(supervise="clip", order="time").plan(one)
        assert late.anchors[0] == 0
        assert [late.frames[a] for a in late.anchors] == [early.frames[a] for a in early.anchors]
        assert late.frames == tuple(t for t in early.frames if t >= late.frames[0])


def test_anchors_depend_on_the_samples_alone() -> None:
    learner = VIRSTLearner()
    assert learner.plan(batch(clip(12))) == learner.plan(batch(clip(12)))
    found = {learner.plan(batch(clip(12, f"clip {i}"))).frames for i in range(20)}
    assert len(found) > 10
    assert all(len(set(frames)) == 3 for frames in found)


def test_training_decodes_with_the_memory_of_inference() -> None:
    """The masks of the learner are those of ``track``, called as the pipeline calls it."""
    model = training(learner=dict(type="VIRSTLearner", supervise="clip", anchors=COUNT)).eval()
    learner, one = model.learner, batch()
    with torch.no_grad():
        _, predictions, truth = learner._rollout(model.model, one)
        parts, reader = model.model, learner.new_reader(model.model)
        features = parts.image_features(list(one.frames[0]))
        tokens = parts.head.condense(features.embedding[None])
        seen = reader.vision_tokens(list(one.frames[0]))
        reading = reader.read(seen, parts.head.initial(tokens), one.expressions)
        prompts, _ = parts.head.second(reading.hidden, tokens)
        memory = dict(type="tdau", alpha=3, num_recent=6, anchors="recent", map_dtype="float32")
        frames = [features[t] for t in range(6)]
        expected = track(
            parts.segmenter,
            frames,
            prompts,
            [0, 5],
            parts.segmenter.new_memory(dict(memory, blank_absent=False)),
        )
    assert truth.shape == (2, 6, 64, 64)
    for ours, theirs in zip(predictions, expected, strict=True):
        assert torch.allclose(ours.mask_logits, theirs.mask_logits, atol=1e-4)


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("supervise", ["anchors", "clip"])
@pytest.mark.parametrize("shown", [True, False])
def test_presence_and_absence_leave_a_gradient(supervise: str, shown: bool) -> None:
    model = training(learner=dict(type="VIRSTLearner", supervise=supervise))
    losses = model(batch(clip(shown=shown)))
    assert all(torch.isfinite(value) for value in losses.values())
    masks = losses["loss_bce"] + losses["loss_dice"]
    grads = torch.autograd.grad(masks, model.model.head.second_fusion.parameters(), retain_graph=True)
    assert sum(float(g.abs().sum()) for g in grads) > 0
    (score,) = torch.autograd.grad(
        losses["loss_occlusion"], [model.model.head.st_tokens.embeddings], retain_graph=True
    )
    assert float(score.abs().sum()) > 0


def test_a_false_absence_keeps_the_masks_gradient() -> None:
    model = training(learner=dict(type="VIRSTLearner", supervise="clip"), trainable=["*"])
    with torch.no_grad():  # an object score far below 0, whatever comes in
        last = list(model.model.segmenter.model.mask_decoder.pred_obj_score_head.parameters())[-1]
        last.fill_(-20.0)
    losses = model(batch())
    assert float(losses["loss_bce"].detach()) < 20  # not the -1024 of a blanked mask
    (grad,) = torch.autograd.grad(losses["loss_bce"], [model.model.head.st_tokens.embeddings])
    assert float(grad.abs().sum()) > 0


def test_text_and_masks_both_reach_the_fusion() -> None:
    model = training()
    losses = model(batch())
    tokens, gate = model.model.head.st_tokens.embeddings, model.model.head.initial_fusion.gate
    for name in ("loss_text", "loss_bce"):
        for grad in torch.autograd.grad(losses[name], [tokens, gate], retain_graph=True):
            assert float(grad.abs().sum()) > 0, name


STAGES: dict[str, tuple[dict[str, Any], str, set[str]]] = {
    "align": (dict(trainable=["head.*"], lora=dict(r=2)), "anchors", {"head", "lora"}),
    "segment": (
        dict(trainable=["head.*", "segmenter.model.mask_decoder.*", *MEMORY], lora=dict(r=2)),
        "clip",
        {"head", "lora", "mask_decoder", "memory"},
    ),
    "propagate": (
        dict(trainable=["*"]),
        "clip",
        {"head", "language", "vision_tower", "projector", "mask_decoder", "memory", "image_encoder"},
    ),
}


def group(name: str) -> str:
    for word, found in (
        ("lora_", "lora"),
        ("head.layers", "head"),
        ("model.head", "head"),
        ("vision_tower", "vision_tower"),
        ("multi_modal_projector", "projector"),
        ("mllm", "language"),
        ("mask_decoder", "mask_decoder"),
        ("vision_encoder", "image_encoder"),
        ("memory", "memory"),
        ("object_pointer", "memory"),
    ):
        if word in name:
            return found
    return "other"


@pytest.mark.parametrize("stage", STAGES)
def test_one_step_changes_exactly_the_groups_of_the_stage(stage: str) -> None:
    keys, supervise, expected = STAGES[stage]
    model = training(learner=dict(type="VIRSTLearner", supervise=supervise, anchors=COUNT), **keys)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0)
    total(model(batch(clip(), clip(name="b", expressions=1)))).backward()
    optimizer.step()
    changed = {group(n) for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed - {"other"} == expected
    assert ("other" in changed) == (stage == "propagate")


# ---------------------------------------------------------------- averages


@pytest.mark.parametrize("supervise", ["anchors", "clip"])
def test_totals_make_two_batches_one(supervise: str) -> None:
    """Clips of one length, in one batch or in two that are divided by the mean of both."""
    model = training(learner=dict(type="VIRSTLearner", supervise=supervise, anchors=COUNT)).eval()
    samples = [clip(6, "a"), clip(6, "b", expressions=1)]
    counts = [model.learner.counts(model.model, batch(one)) for one in samples]
    whole = model.learner.counts(model.model, batch(*samples))
    assert whole == {name: sum(one[name] for one in counts) for name in ("masks", "tokens")}
    totals = {name: value / 2 for name, value in whole.items()}
    with torch.no_grad():
        joint = model(batch(*samples))
        split = [model(replace(batch(one), totals=totals)) for one in samples]
    for name in ("loss_bce", "loss_dice", "loss_iou", "loss_occlusion", "loss_text"):
        assert torch.isclose(joint[name], (split[0][name] + split[1][name]) / 2, rtol=1e-3), name


def test_counts_are_those_of_the_forward_pass() -> None:
    model = training(learner=dict(type="VIRSTLearner", supervise="clip"))
    one = batch(clip(12))
    reading, predictions, truth = model.learner._rollout(model.model, one)
    assert model.learner.counts(model.model, one) == {
        "masks": truth.shape[0] * truth.shape[1],
        "tokens": reading.num_targets,
    }
    assert len(predictions) == truth.shape[1]


def test_a_still_and_a_dialogue_are_learned() -> None:
    model = training()
    still = clip(1, "still")
    talk = ClipSample(
        np.zeros((1, 64, 64, 3), np.uint8), [], np.zeros((0, 1, 64, 64), bool), "t", (("what", "a ring"),)
    )
    losses = model(batch(still, talk))
    assert float(losses["supervised_frames"]) == 1
    alone = model(batch(talk))
    assert set(alone) == {"loss_text"}
    assert float(alone["loss_text"]) > 0
    tokens = model.learner.counts(model.model, batch(still, talk))["tokens"]
    parts = [model.learner.counts(model.model, batch(one))["tokens"] for one in (still, talk)]
    assert tokens == sum(parts)


def test_wording_is_drawn_by_sample_and_expression() -> None:
    questions = ["Where is {expression}?", "Segment {expression}."]
    learner = VIRSTLearner(questions=questions, answers=["Here: {st}.", "It is {st}."])
    many = batch(*(clip(1, f"clip {i}") for i in range(20)))
    drawn = learner.wording(many, questions)
    assert set(drawn) == set(questions)
    assert drawn == learner.wording(many, questions)
    model = training()
    model.learner = learner
    assert torch.isfinite(total(model(batch())))


# ---------------------------------------------------------------- refusals, preparation


def test_bad_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="supervise must be one of"):
        VIRSTLearner(supervise="frames")
    with pytest.raises(ValueError, match="order must be one of"):
        VIRSTLearner(order="backwards")
    with pytest.raises(UserError, match="unknown anchor policy"):
        VIRSTLearner(anchors="nowhere")
    with pytest.raises(ValueError, match="unknown memory policy"):
        VIRSTLearner(memory=dict(type="infinite"))


def test_dialogues_alone_cannot_be_sharded() -> None:
    model = training()
    model.learner.uniform_calls = True
    talk = ClipSample(
        np.zeros((0, 0, 0, 3), np.uint8), [], np.zeros((0,) * 4, bool), "t", (("what", "a ring"),)
    )
    with pytest.raises(UserError, match="dialogues alone"):
        model(batch(talk))


def test_the_memory_learns_from_true_prompts() -> None:
    model = training(learner=dict(type="PromptedClipLearner"), trainable=MEMORY)
    losses = model(batch(clip(), clip(name="b")))
    total(losses).backward()
    names = ("memory_encoder.projection.weight", "memory_temporal_positional_encoding")
    for name in names:
        grad = model.model.segmenter.model.get_parameter(name).grad
        assert grad is not None
        assert float(grad.abs().sum()) > 0


def test_clips_without_a_target_teach_the_memory_nothing() -> None:
    model = training(learner=dict(type="PromptedClipLearner"), trainable=MEMORY)
    assert float(total(model(batch(clip(shown=False)))).detach()) == 0
    with pytest.raises(ValueError, match="true_masks"):
        PromptedClipLearner(true_masks=2.0)


def test_boxes_become_tokens_and_nothing_a_point_on_the_ground() -> None:
    model = training().model.segmenter.model
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 10:21, 5:31] = True
    tokens = box_tokens(model, masks)
    corners = torch.tensor([[[5.0, 10.0], [30.0, 20.0], [0.0, 0.0]]])
    assert torch.allclose(tokens[:1], embed_points(model, corners, torch.tensor([[2, 3, -1]])))
    null = model.prompt_encoder.not_a_point_embed.weight[0]
    assert torch.allclose(tokens[1, 1], null)
    assert not torch.allclose(tokens[1, 0], null)


def test_every_parameter_of_a_stage_is_named() -> None:
    model = training().model
    freeze_all_but(model, ["head.*", *MEMORY])
    assert {group(f"model.{n}") for n, p in model.named_parameters() if p.requires_grad} == {"head", "memory"}
