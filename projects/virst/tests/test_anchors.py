"""Anchor policies: the reference's tables, closed forms, and CLIP with random weights."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects.virst.anchors import (
    ANCHOR_POLICIES,
    AnchorClip,
    AnchorPolicy,
    best_apart,
    build_anchor_policy,
    frame_slots,
    mini_clip,
    spread,
)
from refstream_projects.virst.clip_scores import ClipScorer
from refstream_projects.virst.tests.weights import GOLDEN
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from refstream.errors import UserError
from refstream.streaming.gates import GateSignals

TABLES: dict[str, Any] = json.loads((GOLDEN / "anchors.json").read_text(encoding="utf-8"))


def choose(policy: str | dict[str, Any] | AnchorPolicy, num_frames: int, **clip: Any) -> list[int]:
    return list(build_anchor_policy(policy).choose(AnchorClip(num_frames, **clip)))


# ---------------------------------------------------------------- offline


@pytest.mark.parametrize("num_frames", range(1, 65))
def test_tables_of_the_reference(num_frames: int) -> None:
    release = TABLES["release_inference"]["by_T"][str(num_frames)]["anchors"]
    assert choose("release", num_frames) == release
    assert spread(num_frames, max(1, num_frames // 4)) == release
    assert choose("uniform", num_frames) == TABLES["alpha3_uniform"]["by_T"][str(num_frames)]["half_even"]


def test_the_table_of_the_report() -> None:
    uniform = {4: [0, 2, 3], 8: [0, 4, 7], 10: [0, 4, 9], 12: [0, 6, 11], 32: [0, 16, 31]}
    assert {t: choose("uniform", t) for t in uniform} == uniform
    assert choose("release", 32) == [0, 4, 9, 13, 18, 22, 27, 31]
    assert choose("release", 94) == torch.linspace(0, 93, 23).round().long().tolist() != spread(94, 23)


@pytest.mark.parametrize("config", ["uniform", "release", "first_frame", "every_k", "random"])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 7, 31, 100, 513])
def test_sorted_distinct_and_in_range(config: str, num_frames: int) -> None:
    anchors = choose(config, num_frames, rng=np.random.default_rng(0))
    assert anchors == sorted(set(anchors))
    assert 0 <= anchors[0] <= anchors[-1] < num_frames


@pytest.mark.parametrize(
    ("config", "num_frames", "expected"),
    [
        (dict(type="uniform", alpha=8), 5, [0, 1, 2, 3, 4]),  # fewer frames than alpha: all of them
        (dict(type="uniform", alpha=1), 5, [0]),
        ("uniform", 1, [0]),
        ("release", 3, [0]),
        (dict(type="release", divisor=2), 6, [0, 2, 5]),
        ("first_frame", 9, [0]),
        (dict(type="every_k", k=4), 9, [0, 4, 8]),
        (dict(type="every_k", k=4), 8, [0, 4]),
    ],
)
def test_closed_forms(config: Any, num_frames: int, expected: list[int]) -> None:
    assert choose(config, num_frames) == expected


@pytest.mark.parametrize("config", [dict(type="uniform"), dict(type="release"), dict(type="every_k")])
def test_a_clip_over_the_budget(config: dict[str, Any]) -> None:
    policy = build_anchor_policy(config | dict(max_frames=32))
    assert policy.choose(AnchorClip(32))
    with pytest.raises(UserError, match=r"33 frames is over the budget of 32: take .*frame_slots"):
        policy.choose(AnchorClip(33))
    with pytest.raises(UserError, match="at least one frame, got 0"):
        policy.choose(AnchorClip(0))


@pytest.mark.parametrize(
    ("num_frames", "budget", "expected"),
    [(3, 8, [0, 1, 2]), (8, 8, list(range(8))), (9, 3, [0, 4, 8]), (1, 1, [0]), (5, 1, [0])],
)
def test_slots_within_a_budget(num_frames: int, budget: int, expected: list[int]) -> None:
    assert frame_slots(num_frames, budget) == expected


def test_random_anchors() -> None:
    drawn = [choose("random", 20, rng=np.random.default_rng(seed)) for seed in range(400)]
    assert all(len(anchors) == 3 for anchors in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=20)
    expected = 400 * 3 / 20  # binomial: a clip has a frame with probability 3 / 20
    assert np.abs(counts - expected).max() < 3.5 * np.sqrt(expected * (1 - 3 / 20))
    assert choose("random", 20, rng=np.random.default_rng(7)) == drawn[7]
    assert choose("random", 2, rng=np.random.default_rng(0)) == [0, 1]
    with pytest.raises(UserError, match="rng"):
        choose("random", 20)


@pytest.mark.parametrize("row", TABLES["release_training"]["cases"], ids=lambda r: f"{r['T']}-{r['anchors']}")
def test_mini_clips_of_the_release(row: dict[str, Any]) -> None:
    part = mini_clip(row["anchors"], row["T"])
    assert list(part.frames) == row["mini_clip"]
    assert list(part.anchors) == row["anchors_in_mini_clip"]
    assert sorted(set(part.frames) - set(row["anchors"])) == row["neighbours"]


def test_mini_clip_of_anchors_alone() -> None:
    part = mini_clip([9, 2], 12, num_before=0, num_after=0)
    assert (part.frames, part.anchors) == ((2, 9), (0, 1))
    with pytest.raises(UserError, match="from 0 to 11"):
        mini_clip([12], 12)


# ---------------------------------------------------------------- online


def run_online(config: Any, masks: list[tuple[float, float]]) -> list[tuple[int, str]]:
    """Frames that become anchors, given (P_i, P_c) of every frame's mask."""
    policy = build_anchor_policy(config)
    found, last = [], 0
    for t in range(len(masks)):
        before = masks[t - 1] if t else None
        signals = GateSignals(
            t,
            t - last,
            pred_iou=masks[t][0],
            consistency=masks[t][1],
            prev_pred_iou=before[0] if before else None,
            prev_consistency=before[1] if before and t > 1 else None,
        )
        decision = policy.decide(signals)
        if decision.invoke:
            found.append((t, decision.reason))
            last = t
    return found


GOOD = (0.9, 0.8)


@pytest.mark.parametrize(
    ("config", "masks", "expected"),
    [
        ("first_frame", [GOOD] * 9, [(0, "first")]),
        (dict(type="every_k", k=3), [GOOD] * 8, [(0, "first"), (3, "period"), (6, "period")]),
        ("score", [GOOD] * 9, [(0, "first")]),
        # the mask of frame 2 is unsure, so frame 3 becomes an anchor; that of frame 5 jumped
        (
            "score",
            [GOOD, GOOD, (0.6, 0.8), GOOD, GOOD, (0.9, 0.05), GOOD],
            [(0, "first"), (3, "unsure"), (6, "jumped")],
        ),
        ("score", [GOOD, (0.7, 0.1), GOOD], [(0, "first")]),  # the boundary counts as reliable
        ("score", [GOOD, (float("nan"), 0.9), GOOD], [(0, "first"), (2, "nan")]),
        (dict(type="score", every=4), [GOOD] * 9, [(0, "first"), (4, "period"), (8, "period")]),
        (dict(type="score", cooldown=3), [(0.1, 0.8)] * 8, [(0, "first"), (3, "unsure"), (6, "unsure")]),
        # a gate of the present mask does not wait for the next frame
        (
            dict(type="score", gate=dict(type="ConsistencyGate", tau1=0.7, tau2=0.1)),
            [GOOD, GOOD, (0.6, 0.8), GOOD],
            [(0, "first"), (2, "unsure")],
        ),
    ],
)
def test_online(config: Any, masks: list[tuple[float, float]], expected: list[tuple[int, str]]) -> None:
    assert run_online(config, masks) == expected


def test_every_k_is_the_same_on_the_way() -> None:
    for k in (1, 3, 7):
        config = dict(type="every_k", k=k)
        assert [t for t, _ in run_online(config, [GOOD] * 30)] == choose(config, 30)


def test_what_works_where() -> None:
    works = {
        "uniform": (True, False, False),
        "release": (True, False, False),
        "first_frame": (True, True, False),
        "every_k": (True, True, False),
        "score": (False, True, False),
        "random": (True, False, False),
    }
    assert {*works, "clip"} == set(ANCHOR_POLICIES.module_dict)
    for name, expected in works.items():
        policy = build_anchor_policy(name)
        assert (policy.offline, policy.online, policy.needs_mask) == expected
        if not policy.online:
            with pytest.raises(UserError, match="must see the whole clip"):
                policy.decide(GateSignals(0, 0))
    with pytest.raises(UserError, match="frame by frame: use it online"):
        choose("score", 5)
    assert build_anchor_policy(dict(type="score", gate=dict(type="ConsistencyGate"))).needs_mask


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("uniformly", r"unknown anchor policy 'uniformly'; known are \['clip', 'every_k'"),
        (dict(alpha=3), "unknown anchor policy None"),
        (dict(type="uniform", k=3), "'uniform' does not accept"),
        (dict(type="uniform", alpha=0), "alpha must be at least 1, got 0"),
        (dict(type="uniform", max_frames=0), "max_frames must be at least 1"),
        (dict(type="every_k", k=0), "k must be at least 1"),
        (dict(type="score", every=2, cooldown=3), "every must not be below cooldown"),
        (dict(type="clip", clip="no/such/folder"), "no folder of a CLIP model at no/such/folder"),
        ("clip", "'clip' does not accept"),
    ],
)
def test_bad_configs(config: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_anchor_policy(config)


# ---------------------------------------------------------------- CLIP


@pytest.mark.parametrize(
    ("scores", "count", "spacing", "expected"),
    [
        ([0.1, 0.9, 0.8, 0.2, 0.7], 3, 1, [1, 2, 4]),
        ([0.1, 0.9, 0.8, 0.2, 0.7], 2, 2, [1, 4]),
        ([0.5, 0.5, 0.5, 0.5], 2, 2, [0, 2]),  # ties: the first
        ([0.1, 0.2, 0.9, 0.2, 0.1], 3, 3, [2]),  # no room for more
        ([0.3], 3, 1, [0]),
    ],
)
def test_best_apart(scores: list[float], count: int, spacing: int, expected: list[int]) -> None:
    assert sorted(best_apart(scores, count, spacing)) == expected


def test_the_default_spacing_leaves_room() -> None:
    rng = np.random.default_rng(0)
    for num_frames in range(1, 120):
        for alpha in (1, 2, 3, 8):
            spacing = max(1, num_frames // (2 * alpha))
            assert len(best_apart(rng.random(num_frames), alpha, spacing)) == min(alpha, num_frames)
    with pytest.raises(UserError, match="finite numbers"):
        best_apart([0.1, float("nan")], 1, 1)


@cache
def tiny_clip() -> tuple[CLIPModel, CLIPProcessor]:
    """A real CLIP with random weights, and its real processor with the letters as vocabulary."""
    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    size = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    config = CLIPConfig(
        text_config=dict(
            size,
            vocab_size=len(words),
            max_position_embeddings=24,
            bos_token_id=len(words) - 2,
            eos_token_id=len(words) - 1,
            pad_token_id=len(words) - 1,
        ),
        vision_config=dict(size, image_size=16, patch_size=8),
        projection_dim=8,
    )
    images = CLIPImageProcessor(size=dict(shortest_edge=16), crop_size=dict(height=16, width=16))
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=24)
    return CLIPModel(config).eval(), CLIPProcessor(image_processor=images, tokenizer=tokenizer)


def pictures(num_frames: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return list(rng.integers(0, 256, (num_frames, 20, 30, 3), dtype=np.uint8))


def test_clip_similarity_is_the_models_own() -> None:
    model, processor = tiny_clip()
    scores = ClipScorer(model, processor, batch_size=3)(pictures(7), "the red square")
    inputs = processor(text=["the red square"], images=pictures(7), return_tensors="pt", padding=True)
    with torch.no_grad():
        output = model(**inputs)
    expected = output.logits_per_text[0] / model.logit_scale.exp()
    torch.testing.assert_close(torch.tensor(scores), expected, rtol=1e-5, atol=1e-6)
    assert len(set(np.round(scores, 6))) == 7


def test_clip_guided_anchors_find_the_best_frames() -> None:
    scorer = ClipScorer(*tiny_clip())
    images = pictures(12)
    scores = np.array(scorer(images, "a dog"))
    config = dict(type="clip", clip=scorer, min_spacing=1)
    assert choose(config, 12, images=images, expression="a dog") == sorted(np.argsort(-scores)[:3].tolist())
    apart = choose(dict(type="clip", clip=scorer), 12, images=images, expression="a dog")
    assert len(apart) == 3
    assert int(scores.argmax()) in apart
    assert min(np.diff(apart)) >= 2
    assert choose(config, 2, images=images[:2], expression="a dog") == [0, 1]
    assert choose(config, 1, images=images[:1], expression="a dog") == [0]
    long = "so many words that they do not fit into the text encoder of the model at all"
    assert len(choose(config, 12, images=images, expression=long)) == 3


@pytest.mark.slow
def test_clip_from_a_saved_folder(tmp_path: Path) -> None:
    model, processor = tiny_clip()
    model.save_pretrained(tmp_path / "clip")
    processor.save_pretrained(tmp_path / "clip")
    loaded = ClipScorer.from_pretrained(tmp_path / "clip")
    expected = ClipScorer(model, processor)(pictures(4), "a cat")
    assert loaded(pictures(4), "a cat") == pytest.approx(expected, abs=1e-6)


def test_clip_needs_pictures_and_words() -> None:
    config = dict(type="clip", clip=ClipScorer(*tiny_clip()))
    with pytest.raises(UserError, match="need the images and the expression"):
        choose(config, 3, images=pictures(3))
    with pytest.raises(UserError, match="3 frames came with 2 images"):
        choose(config, 3, images=pictures(2), expression="a dog")
