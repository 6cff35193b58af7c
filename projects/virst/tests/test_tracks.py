"""Tracks from ten prompt vectors against the public code: masks, scores, pointers, gradients."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch
from refstream_projects.virst.tests.weights import GOLDEN, arrays, case
from refstream_projects.virst.tracker import Tracker, processing_order, track
from torch import Tensor

from refstream.checkpoints.safe import load_state
from refstream.models.masks import upsample_mask
from refstream.models.segmenter.conditioning import fuse_memory
from refstream.models.segmenter.memory import Memory
from refstream.models.segmenter.sam2 import ABSENT_LOGIT, Sam2Segmenter
from refstream.structures import ImageFeatures, MaskPrediction

# Run -> number of frames, frame of every prompt slot that is used.
EVAL_RUNS = {"eval_t12": (12, [0, 6, 11]), "eval_slots_t10": (10, [1, 4, 9]), "eval_double_t4": (4, [0, 0])}
TRAIN_FRAMES, TRAIN_ANCHORS = 9, [2, 3, 7]


@cache
def public() -> tuple[Sam2Segmenter, list[ImageFeatures], Tensor]:
    """The segmenter of the golden case, its twelve frames, and prompts (slots, N, C)."""
    folder = GOLDEN.parent / "sam2"
    weights = {k: v.float() for k, v in load_state(folder / "weights.safetensors").items()}
    bias = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"
    weights[bias] = weights[bias] + case()["tracks"]["object_score_bias_shift"]
    reduced = json.loads((folder / "case.json").read_text())["reduced_config"]
    with np.load(GOLDEN / "tracks.npz") as file:
        frames, prompts = file["frames"], torch.from_numpy(file["prompts"])
    with torch.inference_mode(False):  # made once, for training, too
        segmenter = Sam2Segmenter.from_reduced(reduced, "2.1").requires_grad_(False)
        segmenter.load_weights(weights)
        features = [segmenter.encode(segmenter.preprocess([frame])) for frame in frames]
        return segmenter.eval(), features, prompts[0].transpose(0, 1).clone()


def assert_close(run: str, name: str, ours: Tensor, golden: Tensor) -> None:
    """The case's tolerance: five times the deviation under tiny noise, not below 2e-4."""
    assert ours.shape == golden.shape
    tolerance = max(2e-4, 5 * case()["tracks"]["observed_deviation"][f"{run}/{name}"])
    torch.testing.assert_close(ours.detach().float(), golden, rtol=0, atol=tolerance)


def assert_same_run(run: str, rows: list[MaskPrediction]) -> None:
    golden = arrays("tracks", run)
    assert_close(run, "low_res_logits", torch.cat([p.mask_logits for p in rows]), golden["low_res_logits"])
    assert_close(run, "candidate_ious", torch.cat([p.candidate_iou for p in rows]), golden["candidate_ious"])
    score = torch.cat([p.object_score for p in rows])
    assert_close(run, "object_score_logits", score, golden["object_score_logits"])
    pointer = torch.cat([p.object_pointer for p in rows])
    assert_close(run, "object_pointer", pointer, golden["object_pointer"])


def assert_same_fused(run: str, memory: Memory, frame: int) -> None:
    segmenter, features, _ = public()
    read = memory.read(frame)
    assert read is not None
    fused = fuse_memory(segmenter.model, features[frame], read)[0]
    assert_close(run, "fused_features_last", fused, arrays("tracks", run)["fused_features_last"])


@pytest.mark.parametrize("run", EVAL_RUNS)
@torch.inference_mode()
def test_released_inference(run: str) -> None:
    segmenter, features, prompts = public()
    num_frames, slots = EVAL_RUNS[run]
    golden = arrays("tracks", run)
    memory = segmenter.new_memory(dict(type="tdau", known_num_frames=num_frames))
    found = track(
        segmenter,
        features[:num_frames],
        prompts[: len(slots)],
        range(len(slots)),
        memory,
        slots=slots,
        order="anchors_first",
        repeats="refine",
    )
    order = golden["order"].tolist()
    assert processing_order(num_frames, sorted(set(slots)), "anchors_first") == list(dict.fromkeys(order))
    rows = [found[frame] for frame in order]
    if run == "eval_double_t4":  # the first call on frame 0, before it is refined
        rows[0] = Tracker(segmenter, segmenter.new_memory("tdau")).decode(features[0], prompts[0])
        assert not torch.allclose(rows[0].mask_logits, rows[1].mask_logits, atol=0.1)
    assert_same_run(run, rows)
    assert_same_fused(run, memory, order[-1])
    masks = np.unpackbits(golden["video_masks"].numpy(), axis=-1, count=160).astype(bool)
    ours = np.stack([upsample_mask(p.mask_logits, (90, 160)) for p in found])
    assert masks.any()
    assert np.count_nonzero(ours != masks) <= 2  # logits within the tolerance of 0


def released_training(prompts: Tensor) -> tuple[list[MaskPrediction], Memory]:
    segmenter, features, _ = public()
    memory = segmenter.new_memory(
        dict(type="tdau", known_num_frames=TRAIN_FRAMES, future_pointers=True, map_dtype=None)
    )
    segmenter.model.mask_decoder.train()  # no stability fall-back; there is no dropout in it
    try:
        found = track(
            segmenter,
            features[:TRAIN_FRAMES],
            prompts,
            [0, 1, 2],
            memory,
            slots=TRAIN_ANCHORS,
            order="first_anchor",
            multimask=False,
        )
    finally:
        segmenter.eval()
    return found, memory


def test_released_training() -> None:
    golden = arrays("tracks", "train_t9")
    prompts = public()[2].clone().requires_grad_()
    found, memory = released_training(prompts)
    order = golden["order"].tolist()
    assert processing_order(TRAIN_FRAMES, TRAIN_ANCHORS, "first_anchor") == order
    assert_same_run("train_t9", [found[frame] for frame in order])
    assert_same_fused("train_t9", memory, order[-1])
    assert all(e.features is None or e.features.dtype == torch.float32 for e in memory.entries())

    shown = [t for t, p in enumerate(found) if p.object_score.item() > 0]
    upstream = golden["upstream"]
    for name, frames in (
        ("prompt_grad", shown),
        ("prompt_grad_through_memory", [t for t in shown if t not in TRAIN_ANCHORS]),
    ):
        total = torch.stack([(found[t].mask_logits[0] * upstream[t]).sum() for t in frames]).sum()
        (gradient,) = torch.autograd.grad(total, prompts, retain_graph=True)
        expected = golden[name][0].transpose(0, 1)
        assert expected.abs().max() > 0
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


def test_absence_leaves_a_gradient_and_the_same_memory() -> None:
    """``blank_absent=False`` shows the logits of an absent object and remembers the blank mask as before."""
    segmenter, features, prompts = public()
    shown: dict[bool, list[MaskPrediction]] = {}
    prompts = prompts.clone().requires_grad_()
    for blank in (True, False):
        memory = segmenter.new_memory(dict(type="tdau", blank_absent=blank, known_num_frames=12))
        shown[blank] = track(
            segmenter, features, prompts, [0, 1, 2], memory, slots=[0, 6, 11], order="anchors_first"
        )
    absent = [t for t, p in enumerate(shown[True]) if p.object_score.item() <= 0]
    assert absent == [t for t, p in enumerate(shown[False]) if p.object_score.item() <= 0] != []
    for t, (blanked, kept) in enumerate(zip(shown[True], shown[False], strict=True)):
        assert torch.equal(blanked.object_pointer, kept.object_pointer)
        if t in absent:
            assert (blanked.mask_logits == ABSENT_LOGIT).all()
            assert not (kept.mask_logits == ABSENT_LOGIT).any()
        else:
            assert torch.equal(blanked.mask_logits, kept.mask_logits)
    frame = absent[0]
    (gradient,) = torch.autograd.grad(shown[False][frame].mask_logits.sum(), prompts)
    assert gradient.abs().max() > 0
