"""The losses: sums by hand, the public code's numbers and gradients, and what absence leaves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from refstream_projects.virst.losses import VIRSTLoss, ignore_targets, scaled_dice, true_iou
from refstream_projects.virst.st_tokens import read_back, scatter_states
from refstream_projects.virst.tests.weights import (
    arrays,
    assert_gradient_near,
    assert_near,
    case,
    features,
    initial_fusion,
    second_fusion,
)
from torch import Tensor

from refstream.models.losses.mask import sigmoid_bce
from refstream.registry import LOSSES

SEG = case()["widths"]["losses"]["seg_token"]
CASES = case()["losses"]["cases"]
MASK_TERMS = {
    "loss_bce": "mask_bce_loss",
    "loss_dice": "mask_dice_loss",
    "loss_iou": "iou_loss",
    "loss_occlusion": "occ_loss",
}


def by_name(entry: dict) -> str:
    return entry["name"]


# ---------------------------------------------------------------- by hand


def quarter() -> tuple[Tensor, Tensor]:
    """(1, 4, 4) logits, +30 on the left half, -30 elsewhere, and a truth in the upper half."""
    logits, target = torch.full((1, 4, 4), -30.0), torch.zeros(1, 4, 4, dtype=torch.bool)
    logits[:, :, :2] = 30.0
    target[:, :2] = True
    return logits, target


def test_masks_by_hand() -> None:
    """8 pixels predicted, 8 true, 4 shared; 8 pixels are wrong by 30."""
    logits, target = quarter()
    losses = VIRSTLoss()(logits, target, torch.tensor([0.5]), torch.tensor([2.0]))
    assert losses["loss_bce"].item() == pytest.approx(8 / 16 * 30, rel=1e-6)
    dice = 1 - (2 * 4 / 1000 + 1e-6) / (8 / 1000 + 8 / 1000 + 1e-6)
    assert losses["loss_dice"].item() == pytest.approx(dice, rel=1e-5)
    assert losses["loss_iou"].item() == pytest.approx(0.05 * (0.5 - 4 / 12), rel=1e-5)
    assert losses["loss_occlusion"].item() == pytest.approx(0.05 * math.log1p(math.exp(-2)), rel=1e-5)
    assert "loss_text" not in losses


def test_perfect_masks_by_hand() -> None:
    _, target = quarter()
    logits = target.float() * 80 - 40
    losses = VIRSTLoss()(logits, target, torch.ones(1), torch.full((1,), 40.0), token_loss=torch.tensor(2.0))
    assert losses.pop("loss_text").item() == 2.0
    assert all(value.item() == pytest.approx(0, abs=1e-6) for value in losses.values())


def test_an_empty_truth_by_hand() -> None:
    """All 16 pixels at logit 0: BCE log 2; Dice 1 - 1e-6 / (8 / 1000 + 1e-6); true IoU 0; absent."""
    logits, target = torch.zeros(1, 4, 4, requires_grad=True), torch.zeros(1, 4, 4)
    losses = VIRSTLoss()(logits, target, torch.tensor([0.25]), torch.zeros(1))
    assert losses["loss_bce"].item() == pytest.approx(math.log(2), rel=1e-6)
    assert losses["loss_dice"].item() == pytest.approx(1 - 1e-6 / (8 / 1000 + 1e-6), rel=1e-6)
    assert losses["loss_iou"].item() == pytest.approx(0.05 * 0.25, rel=1e-6)
    assert losses["loss_occlusion"].item() == pytest.approx(0.05 * math.log(2), rel=1e-6)
    sum(losses.values()).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad > 0).all()  # less mask everywhere


def test_iou_of_two_empty_masks_is_a_key() -> None:
    logits, target = torch.full((1, 4, 4), -9.0), torch.zeros(1, 4, 4)
    assert true_iou(logits, target).item() == 0
    assert true_iou(logits, target, empty_iou=1.0).item() == 1
    loss = VIRSTLoss(empty_iou=1.0, iou_weight=1.0)(logits, target, torch.tensor([0.9]), torch.zeros(1))
    assert loss["loss_iou"].item() == pytest.approx(0.1, rel=1e-5)


def test_iou_needs_more_than_one_half() -> None:
    _, target = quarter()
    assert true_iou(torch.zeros(1, 4, 4), target).item() == 0
    assert true_iou(torch.full((1, 4, 4), 0.1), target).item() == pytest.approx(0.5)


def test_every_weight_and_the_number_of_pairs() -> None:
    torch.manual_seed(1)
    given = (torch.randn(3, 4, 4), torch.rand(3, 4, 4) > 0.5, torch.rand(3), torch.randn(3))
    weights = dict(bce_weight=2.0, dice_weight=3.0, token_weight=5.0, iou_weight=7.0, occlusion_weight=11.0)
    ones = VIRSTLoss(**dict.fromkeys(weights, 1.0))(*given, token_loss=torch.tensor(1.5))
    many = VIRSTLoss(**weights)(*given, token_loss=torch.tensor(1.5), num_pairs=12)
    factors = [2 / 4, 3 / 4, 7 / 4, 11 / 4, 5]
    for name, factor in zip(ones, factors, strict=True):
        assert many[name].item() == pytest.approx(ones[name].item() * factor, rel=1e-6)


def test_pairs_count_alike_however_they_are_split() -> None:
    torch.manual_seed(2)
    given = (torch.randn(5, 4, 4), torch.rand(5, 4, 4) > 0.5, torch.rand(5), torch.randn(5))
    loss = VIRSTLoss()
    whole = loss(*given)
    parts = [loss(*(t[s] for t in given), num_pairs=5) for s in (slice(0, 2), slice(2, 5))]
    for name, value in whole.items():
        assert sum(part[name] for part in parts).item() == pytest.approx(value.item(), rel=1e-5)


def test_masks_are_enlarged_to_the_truth() -> None:
    logits = torch.randn(2, 4, 4)
    target = torch.rand(2, 16, 12) > 0.5
    large = F.interpolate(logits[:, None], (16, 12), mode="bilinear", align_corners=False)[:, 0]
    rest = (torch.rand(2), torch.randn(2))
    ours, same = VIRSTLoss()(logits, target, *rest), VIRSTLoss()(large, target, *rest)
    assert all(torch.equal(ours[name], same[name]) for name in same)


def test_no_pair_costs_nothing_and_keeps_a_graph() -> None:
    logits = torch.zeros(0, 4, 4, requires_grad=True)
    scores = torch.zeros(2, 0, requires_grad=True)
    losses = VIRSTLoss()(logits, torch.zeros(0, 8, 8), scores[0], scores[1])
    assert [value.item() for value in losses.values()] == [0, 0, 0, 0]
    sum(losses.values()).backward()
    assert logits.grad.shape == (0, 4, 4)


def test_mask_tokens_are_no_targets() -> None:
    """A language model that is sure of all but [SEG]: the loss does not notice."""
    labels = torch.tensor([[-100, 3, SEG, 4, SEG]])
    kept = ignore_targets(labels, [SEG, 51])
    assert kept.tolist() == [[-100, 3, -100, 4, -100]]
    assert labels[0, 2] == SEG
    assert torch.equal(ignore_targets(labels, []), labels)
    logits = torch.zeros(1, 5, 61)
    before = F.cross_entropy(logits[:, :-1].flatten(0, 1), kept[:, 1:].flatten())
    logits[0, [1, 3], SEG] = 9.0  # what stands before each [SEG]
    assert F.cross_entropy(logits[:, :-1].flatten(0, 1), kept[:, 1:].flatten()) == before


# ---------------------------------------------------------------- absence


def absent_pair() -> dict[str, Any]:
    _, target = quarter()
    logits = torch.full((1, 4, 4), 0.3, requires_grad=True)
    score = torch.tensor([-2.0], requires_grad=True)
    return dict(mask_logits=logits, target=target, pred_iou=torch.tensor([0.5]), object_score=score)


def test_a_false_absence_leaves_a_gradient() -> None:
    kept = absent_pair()
    losses = VIRSTLoss()(**kept)
    assert losses["loss_bce"] < 1
    (losses["loss_bce"] + losses["loss_dice"]).backward()
    assert (kept["mask_logits"].grad[kept["target"]] < 0).all()
    assert (kept["mask_logits"].grad[~kept["target"]] > 0).all()


def test_the_release_blanks_and_leaves_only_the_occlusion_loss() -> None:
    blank = absent_pair()
    losses = VIRSTLoss(absent="blank")(**blank)
    assert losses["loss_bce"].item() == pytest.approx(1024 * 8 / 16)
    sum(losses.values()).backward()
    assert not blank["mask_logits"].grad.any()
    assert blank["object_score"].grad.item() == pytest.approx(0.05 * (1 / (1 + math.exp(2)) - 1), rel=1e-5)


def test_masks_that_were_blanked_before_are_refused() -> None:
    pair = {**absent_pair(), "mask_logits": torch.full((1, 4, 4), -1024.0)}
    with pytest.raises(ValueError, match=r"1 masks are -1024.*blank_absent=False"):
        VIRSTLoss()(**pair)
    assert VIRSTLoss(absent="blank")(**pair)["loss_bce"].item() == pytest.approx(512)


# ---------------------------------------------------------------- the public code


@pytest.mark.parametrize("entry", case()["losses"]["functions_alone"], ids=by_name)
def test_functions_of_the_public_code(entry: dict) -> None:
    data = arrays("losses", entry["name"])
    for name, function in [("dice", scaled_dice), ("bce", sigmoid_bce)]:
        logits = data["logits"].clone().requires_grad_()
        keys = {"scale": entry["scale"]} if name == "dice" else {}
        loss = function(logits, data["target"], **keys).sum() / entry["num_masks"]
        assert loss.item() == pytest.approx(entry[name], rel=2e-5, abs=2e-5)
        loss.backward()
        assert_gradient_near(logits.grad, data[f"{name}_grad"])


def pairs(entry: dict, data: dict[str, Tensor]) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """Leaf tensors of a case over its supervised pairs, and (conversation, frame) of each."""
    index = [(part["conversation"], frame) for part in entry["supervised"] for frame in part["frames"]]
    rows = tuple(torch.tensor(index).T)
    width = data["mask_logits"].shape[-1]
    truth = torch.from_numpy(np.unpackbits(data["gt"].numpy(), axis=-1, count=width)).bool()
    leaves = [data[name][rows].requires_grad_() for name in ("mask_logits", "pred_iou", "object_score")]
    assert len(index) == entry["pairs"]
    return [leaves[0], truth[rows], *leaves[1:]], index


def loss_of(entry: dict, **keys: Any) -> VIRSTLoss:
    weights = entry["weights"]
    return VIRSTLoss(
        bce_weight=weights["bce_loss_weight"],
        dice_weight=weights["dice_loss_weight"],
        token_weight=weights["ce_loss_weight"],
        iou_weight=weights["iou_loss_weight"],
        occlusion_weight=weights["occ_loss_weight"],
        **keys,
    )


def gather(grads: Tensor, index: list[tuple[int, int]]) -> Tensor:
    return grads[tuple(torch.tensor(index).T)]


@pytest.mark.parametrize("entry", [e for e in CASES if e["name"] != "mini_clip"], ids=by_name)
@pytest.mark.parametrize("twice", [False, True])
def test_terms_of_the_public_code(entry: dict, twice: bool) -> None:
    data, public = arrays("losses", entry["name"]), entry["public_weighted_terms"]
    given, index = pairs(entry, data)
    losses = loss_of(entry, iou_twice=twice)(*given, token_loss=torch.tensor(public["ce_loss"]))
    for ours, theirs in MASK_TERMS.items():
        factor = 2 if twice and ours == "loss_iou" else 1
        assert losses[ours].item() == pytest.approx(factor * public[theirs], rel=2e-5, abs=2e-5)
    total = sum(losses.values())
    expected = public["loss"] if twice else entry["own_arithmetic"]["loss_with_iou_once"]
    assert total.item() == pytest.approx(expected, rel=2e-5)
    total.backward()
    for name, leaf in zip(("mask_logits", "pred_iou", "object_score"), (given[0], *given[2:]), strict=True):
        half = 0.5 if name == "pred_iou" and not twice else 1.0  # case.json: pred_iou_grad_with_iou_once
        assert_gradient_near(leaf.grad, half * gather(data[f"{name}_grad"], index))


def test_absences_of_the_public_code() -> None:
    """The tracker blanked two frames; from raw logits "blank" gives the same, and no gradient."""
    (entry,) = [e for e in CASES if e["name"] == "mini_clip"]
    data, public = arrays("losses", "mini_clip"), entry["public_weighted_terms"]
    (logits, target, pred_iou, score), index = pairs(entry, data)
    special = [entry["special_frames"][name] for name in ("false_absence", "true_absence")]
    blanked = torch.tensor([frame in special for _, frame in index])
    raw = torch.where(blanked[:, None, None], torch.randn_like(logits), logits).detach().requires_grad_()
    present = torch.where(blanked, -1.0, 1.0)  # the stand-in's own scores do not follow what it blanked
    losses = loss_of(entry, absent="blank")(raw, target, pred_iou, present)
    losses["loss_occlusion"] = loss_of(entry)(raw, target, pred_iou, score)["loss_occlusion"]
    for ours, theirs in MASK_TERMS.items():
        assert losses[ours].item() == pytest.approx(public[theirs], rel=2e-5, abs=2e-5)
    once = entry["own_arithmetic"]["loss_with_iou_once"]
    total = sum(losses.values())
    assert total.item() + public["ce_loss"] == pytest.approx(once, rel=2e-5)
    total.backward()
    expected = gather(data["mask_logits_grad"], index)
    assert expected[blanked].abs().max() > 0
    assert not raw.grad[blanked].any()
    assert_gradient_near(raw.grad[~blanked], expected[~blanked])
    assert_gradient_near(score.grad, gather(data["object_score_grad"], index))


@pytest.mark.parametrize("entry", CASES, ids=by_name)
def test_fusion_read_back_and_tokens_of_the_public_code(entry: dict) -> None:
    """From input embeddings over both fusions to the prompts, and the token loss with its gradient."""
    data = arrays("losses", entry["name"])
    embeds, seen = data["embeds"].clone().requires_grad_(), features(data)
    labels = ignore_targets(data["labels"], [SEG])
    assert torch.equal(labels, data["labels_for_ce"])
    width = max(len(row) for row in entry["seg_positions"])
    positions = torch.tensor([row + [-1] * (width - len(row)) for row in entry["seg_positions"]])
    fused = embeds
    if entry["initial_fusion"]:
        module = initial_fusion("loss", 4)
        tokens = module.frame_tokens(seen).expand(len(embeds), -1, -1, -1)
        fused = scatter_states(embeds, positions, module(read_back(embeds, positions), tokens))
    assert_near(fused, data["embeds_after_fusion"])

    hidden = fused @ data["W"]
    logits = (hidden @ data["U"])[:, :-1].flatten(0, 1)
    token_loss = F.cross_entropy(logits, labels[:, 1:].flatten())
    assert token_loss.item() == pytest.approx(entry["public_weighted_terms"]["ce_loss"], rel=2e-5)
    token_loss.backward()
    assert_gradient_near(embeds.grad, data["embeds_grad"])

    prompter, states = second_fusion("loss", 2, 1), read_back(hidden, positions)
    for part in entry["supervised"]:
        row = slice(part["conversation"], part["conversation"] + 1)
        assert_near(states[row], data[f"read_back{part['conversation']}"])
        prompts, _ = prompter(states[row], prompter.frame_tokens(seen))
        chosen = prompts[:, part["anchors"]].transpose(1, 2)
        assert_near(chosen, data[f"prompt{part['conversation']}"])


# ---------------------------------------------------------------- configuration


def test_configs_can_name_it() -> None:
    loss = LOSSES.build(dict(type="VIRSTLoss", iou_twice=True, absent="blank", bce_weight=2.0))
    assert isinstance(loss, VIRSTLoss)
    assert (loss.iou_weight, loss.bce_weight, loss.occlusion_weight) == (0.1, 2.0, 0.05)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (dict(bce_weight=-1.0), "must not be negative"),
        (dict(absent="clamp"), "absent must be one of.*got 'clamp'"),
        (dict(dice_scale=0.0), "dice_scale must be positive, got 0"),
    ],
)
def test_bad_keys_are_refused(keys: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VIRSTLoss(**keys)


def test_shapes_that_do_not_fit_are_refused() -> None:
    good = dict(
        mask_logits=torch.zeros(2, 4, 4), target=torch.zeros(2, 4, 4), pred_iou=torch.zeros(2),
        object_score=torch.zeros(2),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"expected logits \(P, h, w\)"):
        VIRSTLoss()(**{**good, "target": torch.zeros(3, 4, 4)})
    with pytest.raises(ValueError, match=r"must be \(2,\), got \(2, 1\)"):
        VIRSTLoss()(**{**good, "pred_iou": torch.zeros(2, 1)})
