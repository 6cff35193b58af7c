"""Sam2Segmenter: its contract, prompts in any combination, gradients, dtypes, loading, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from refstream.checkpoints.sam2 import transformers_to_meta
from refstream.models.protocols import Segmenter
from refstream.models.segmenter.sam2 import ABSENT_LOGIT, Sam2Segmenter
from refstream.models.segmenter.sam2_config import config_from_dict, size_config
from refstream.registry import MODELS
from refstream.structures import ImageFeatures, MaskPrediction, SegPrompt

REDUCED: dict[str, Any] = {
    "image_size": 64,
    "hidden_dim": 32,
    "mem_dim": 16,
    "trunk": {"embed_dim": 8, "num_heads": 1, "stages": [1, 1, 2, 1], "global_att_blocks": [3]},
    "memory_attention": {"layers": 2, "feedforward": 32},
    "mask_decoder": {"mlp": 64},
}


@pytest.fixture(scope="module")
def segmenter() -> Sam2Segmenter:
    torch.manual_seed(0)
    return Sam2Segmenter.from_reduced(REDUCED).requires_grad_(False)


@pytest.fixture(scope="module")
def features(segmenter: Sam2Segmenter) -> ImageFeatures:
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, (40, 70, 3), dtype=np.uint8),
        rng.integers(0, 256, (90, 30, 3), dtype=np.uint8),
    ]
    return segmenter.encode(segmenter.preprocess(images))


def prompts(kinds: str, count: int = 2) -> SegPrompt:
    """A prompt with an (e)mbedding, (p)oints, a (b)ox, a (m)ask."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    parts: dict[str, Tensor] = {}
    if "e" in kinds:
        parts["embedding"] = draw(3, 32)
    if "p" in kinds:
        parts |= {"points_xy": 32 + 9 * draw(2, 2), "point_labels": torch.tensor([[1, 0]]).expand(count, 2)}
    if "b" in kinds:
        parts["box_xyxy"] = torch.tensor([8.0, 9.0, 40.0, 50.0]) + draw(4)
    if "m" in kinds:
        parts["mask_logits"] = draw(1, 16, 16)
    return SegPrompt(**parts)


def part(prompt: SegPrompt, index: int) -> SegPrompt:
    s = slice(index, index + 1)
    values = {name: getattr(prompt, name) for name in prompt.__dataclass_fields__}
    return SegPrompt(**{name: None if value is None else value[s] for name, value in values.items()})


def same(left: MaskPrediction, right: MaskPrediction) -> None:
    for name in left.__dataclass_fields__:
        torch.testing.assert_close(getattr(left, name), getattr(right, name), rtol=1e-4, atol=1e-4)


def test_contract(segmenter: Sam2Segmenter, features: ImageFeatures) -> None:
    assert isinstance(segmenter, Segmenter)
    assert (segmenter.image_size, segmenter.prompt_dim, segmenter.mask_size) == (64, 32, 16)
    assert features.embedding.shape == (2, 32, 4, 4)
    assert [f.shape for f in features.high_res] == [(2, 4, 16, 16), (2, 8, 8, 8)]
    assert features.position.shape == (1, 32, 4, 4)
    prediction = segmenter.decode(features, prompts("e"))
    assert prediction.mask_logits.shape == (2, 16, 16)
    assert prediction.mask_logits.dtype == torch.float32
    assert prediction.pred_iou.shape == prediction.object_score.shape == (2,)
    assert prediction.candidate_logits.shape == (2, 3, 16, 16)
    assert prediction.candidate_iou.shape == (2, 3)
    assert prediction.object_pointer.shape == (2, 32)
    assert ((prediction.pred_iou >= 0) & (prediction.pred_iou <= 1)).all()
    assert torch.equal(prediction.pred_iou, prediction.candidate_iou.max(dim=1).values)
    single = segmenter.decode(features, prompts("e"), multimask=False)
    assert single.candidate_logits.shape == (2, 1, 16, 16)


@pytest.mark.parametrize("kinds", ["e", "p", "b", "m", "ep", "eb", "em", "pb", "pm", "epbm"])
def test_prompts_are_independent(segmenter: Sam2Segmenter, features: ImageFeatures, kinds: str) -> None:
    """N prompts give what each gives alone: on one shared image, and on one image each."""
    prompt = prompts(kinds)
    shared = segmenter.decode(features[0], prompt)
    paired = segmenter.decode(features, prompt)
    for i in range(2):
        same(shared[i], segmenter.decode(features[0], part(prompt, i)))
        same(paired[i], segmenter.decode(features[i], part(prompt, i)))


@pytest.mark.parametrize("added", ["p", "b", "m"])
def test_every_kind_matters(segmenter: Sam2Segmenter, features: ImageFeatures, added: str) -> None:
    alone = segmenter.decode(features, prompts("e"))
    both = segmenter.decode(features, prompts("e" + added))
    assert (alone.candidate_logits - both.candidate_logits).abs().max() > 1e-3


def test_an_embedding_alone_is_all_that_the_decoder_gets(
    segmenter: Sam2Segmenter, features: ImageFeatures
) -> None:
    """``padded=False``: the same as the heads on the bare vectors; with null points it is another prompt."""
    prompt = prompts("e")
    image = features.embedding + segmenter.model.no_memory_embedding.reshape(1, -1, 1, 1)
    assert prompt.embedding is not None
    masks, iou, _, _ = segmenter.run_heads(image, features.high_res, prompt.embedding, None, True)
    bare = segmenter.decode(features, prompt, padded=False)
    torch.testing.assert_close(bare.candidate_logits, masks)
    torch.testing.assert_close(bare.candidate_iou, iou)
    assert (bare.candidate_logits - segmenter.decode(features, prompt).candidate_logits).abs().max() > 1e-3


@pytest.mark.parametrize(("kept", "dtype"), [(torch.bfloat16, torch.bfloat16), (None, torch.float32)])
def test_a_policy_says_in_which_dtype_maps_are_kept(
    segmenter: Sam2Segmenter, features: ImageFeatures, kept: torch.dtype | None, dtype: torch.dtype
) -> None:
    memory = segmenter.new_memory()
    assert memory.map_dtype == torch.bfloat16
    memory.map_dtype = kept
    prediction = segmenter.decode(features[0], prompts("e", 1))
    segmenter.remember(features[0], prediction, memory, frame_index=0, is_conditioning=True)
    (entry,) = memory.entries()
    assert entry.features is not None
    assert entry.features.dtype == dtype
    assert segmenter.decode(features[0], None, memory=memory).mask_logits.isfinite().all()


@pytest.mark.parametrize("training", [False, True])
def test_gradient_reaches_the_embedding(
    segmenter: Sam2Segmenter, features: ImageFeatures, training: bool
) -> None:
    embedding = torch.randn(2, 1, 32, requires_grad=True)
    segmenter.train(training)
    try:
        segmenter.decode(features, SegPrompt(embedding=embedding)).mask_logits.square().mean().backward()
    finally:
        segmenter.eval()
    assert embedding.grad is not None
    assert (embedding.grad.abs().sum(dim=(1, 2)) > 0).all()


def test_tables_made_while_inferring_serve_training(segmenter: Sam2Segmenter) -> None:
    pixels = segmenter.preprocess([np.zeros((64, 64, 3), dtype=np.uint8)])
    with torch.inference_mode():
        segmenter.encode(pixels)
    fresh = Sam2Segmenter(REDUCED)
    memory = fresh.new_memory()
    for t in range(2):
        encoded = fresh.encode(pixels)
        prediction = fresh.decode(encoded, prompts("e", 1) if t == 0 else None, memory=memory)
        fresh.remember(encoded, prediction, memory, frame_index=t, is_conditioning=t == 0)
    prediction.candidate_logits.mean().backward()
    gradient = fresh.model.memory_attention.layers[0].self_attn.q_proj.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_blanking(segmenter: Sam2Segmenter, features: ImageFeatures) -> None:
    """Absent objects are blanked under the sam2 policy or when asked for, and only then."""
    head = segmenter.model.mask_decoder.pred_obj_score_head.proj_out
    before = head.bias.clone()
    head.bias.fill_(-100.0)
    try:
        for option, memory, blank in [
            (None, None, False),
            (None, segmenter.new_memory("none"), False),
            (None, segmenter.new_memory("sam2"), True),
            (None, segmenter.new_memory({"type": "sam2", "blank_absent": False}), False),
            (True, None, True),
            (False, segmenter.new_memory("sam2"), False),
        ]:
            segmenter.blank_absent = option
            prediction = segmenter.decode(features, prompts("p"), memory=memory)
            assert (prediction.mask_logits == ABSENT_LOGIT).all() == blank
            assert (prediction.candidate_logits == ABSENT_LOGIT).all() == blank
            pointer = segmenter.model.no_object_pointer.expand(2, -1)
            torch.testing.assert_close(prediction.object_pointer, pointer)
    finally:
        segmenter.blank_absent = None
        head.bias.copy_(before)


def test_bfloat16_keeps_tables_in_float32() -> None:
    segmenter = Sam2Segmenter(REDUCED).requires_grad_(False).to(torch.bfloat16).eval()
    model = segmenter.model
    assert model.no_memory_embedding.dtype == torch.bfloat16
    assert model.shared_image_embedding.positional_embedding.dtype == torch.float32
    assert model.prompt_encoder.shared_embedding.positional_embedding.dtype == torch.float32
    full = Sam2Segmenter(REDUCED, weights=segmenter.model.state_dict()).requires_grad_(False).eval()
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    results = []
    for each in (segmenter, full):
        memory = each.new_memory("sam2")
        for t in range(3):
            features = each.encode(each.preprocess([image]))
            prompt = prompts("epbm", 2) if t == 0 else None
            prediction = each.decode(features, prompt, memory=memory)
            each.remember(features, prediction, memory, frame_index=t, is_conditioning=t == 0)
        results.append(prediction)
    half, whole = results
    assert half.mask_logits.dtype == half.pred_iou.dtype == half.object_score.dtype == torch.float32
    assert half.object_pointer.dtype == torch.bfloat16
    assert all(e.features.dtype == torch.bfloat16 for e in memory.entries() if e.features is not None)
    torch.testing.assert_close(half.candidate_iou, whole.candidate_iou, rtol=0, atol=0.05)


def test_memory_is_per_query_and_none_costs_nothing(
    segmenter: Sam2Segmenter, features: ImageFeatures
) -> None:
    nothing = segmenter.new_memory("none")
    prediction = segmenter.decode(features, prompts("e"), memory=nothing)
    segmenter.remember(features, prediction, nothing, frame_index=0, is_conditioning=True)
    assert len(nothing) == 0
    same(prediction, segmenter.decode(features, prompts("e")))
    with pytest.raises(ValueError, match="nothing to segment"):
        segmenter.decode(features, None, memory=nothing)


def test_mask_as_prediction(segmenter: Sam2Segmenter, features: ImageFeatures) -> None:
    masks = torch.zeros(2, 128, 128, dtype=torch.bool)
    masks[0, 32:96, 32:96] = True
    prediction = segmenter.from_mask(features, masks)
    assert prediction.object_score.tolist() == [10.0, -10.0]
    assert torch.equal(prediction.mask_logits > 0, masks[:, ::8, ::8])
    torch.testing.assert_close(prediction.object_pointer[1], segmenter.model.no_object_pointer[0])


@pytest.mark.parametrize(
    ("prompt", "match"),
    [
        (SegPrompt(embedding=torch.zeros(2, 1, 7)), r"\(N, K, 32\)"),
        (SegPrompt(embedding=torch.zeros(3, 1, 32)), "3 prompts"),
        (SegPrompt(box_xyxy=torch.zeros(2, 2, 2)), r"\(N, 4\)"),
        (SegPrompt(points_xy=torch.zeros(2, 3, 2), point_labels=torch.ones(2, 4)), r"\(N, K\)"),
    ],
)
def test_misfits(segmenter: Sam2Segmenter, features: ImageFeatures, prompt: SegPrompt, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        segmenter.decode(features, prompt)


def test_wrong_pixels(segmenter: Sam2Segmenter) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, 64, 64\)"):
        segmenter.encode(torch.zeros(1, 3, 32, 64))


def test_built_from_a_config() -> None:
    built = MODELS.build({"type": "Sam2Segmenter", "config": {**REDUCED, "version": "2.0"}})
    assert isinstance(built, Sam2Segmenter)
    assert built.model.occlusion_spatial_embedding_parameter is None
    again = MODELS.build({"type": "Sam2Segmenter", "config": json.loads(json.dumps(built.config.to_dict()))})
    again.load_weights(built.model.state_dict())
    with torch.device("meta"):
        large = MODELS.build({"type": "Sam2Segmenter", "config": {"size": "large"}})
    assert (large.image_size, large.prompt_dim, large.mask_size) == (1024, 256, 256)
    with pytest.raises(ValueError, match="huge"):
        size_config("huge")
    with pytest.raises(ValueError, match=r"3\.0"):
        size_config("tiny", "3.0")
    with pytest.raises(ValueError, match="resize"):
        Sam2Segmenter(REDUCED, resize="nearest")
    with pytest.raises(ValueError, match="first of a stage"):
        Sam2Segmenter({**REDUCED, "trunk": {**REDUCED["trunk"], "global_att_blocks": [2]}})
    with pytest.raises(ValueError, match="bert"):
        config_from_dict({"model_type": "bert"})


def test_transformers_folder(tmp_path: Path, segmenter: Sam2Segmenter, features: ImageFeatures) -> None:
    segmenter.model.save_pretrained(tmp_path)
    loaded = Sam2Segmenter.from_pretrained(tmp_path)
    assert loaded.config.mask_decoder_config.mlp_dim == 64
    same(loaded.decode(features, prompts("eb")), segmenter.decode(features, prompts("eb")))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="JSON"):
        Sam2Segmenter.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        Sam2Segmenter.from_pretrained(tmp_path)


def test_checkpoint_file(tmp_path: Path, segmenter: Sam2Segmenter, features: ImageFeatures) -> None:
    meta = transformers_to_meta(segmenter.model.state_dict())
    torch.save({"model": meta}, tmp_path / "sam2.pt")
    loaded = Sam2Segmenter(REDUCED, weights=tmp_path / "sam2.pt").eval()
    same(loaded.decode(features, prompts("eb")), segmenter.decode(features, prompts("eb")))
    with pytest.raises(ValueError, match="unknown SAM2 size"):
        Sam2Segmenter.from_pretrained(tmp_path / "sam2.pt")
    with pytest.raises(ValueError, match=r"unexpected: occlusion_spatial"):
        Sam2Segmenter({**REDUCED, "version": "2.0"}, weights=tmp_path / "sam2.pt")
    meta.pop("no_mem_embed")
    with pytest.raises(ValueError, match="missing: no_memory_embedding"):
        Sam2Segmenter(REDUCED, weights=meta)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_public_checkpoint_is_recognised(tmp_path: Path, version: str) -> None:
    """A real-size file goes through detection, key map and one prompt."""
    saved = Sam2Segmenter.from_size("tiny", version)
    torch.save({"model": transformers_to_meta(saved.model.state_dict())}, tmp_path / "sam2.pt")
    loaded = Sam2Segmenter.from_pretrained(tmp_path / "sam2.pt", dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16
    image = np.zeros((480, 640, 3), dtype=np.uint8)
    with torch.inference_mode():
        features = loaded.encode(loaded.preprocess([image]))
        memory = loaded.new_memory("sam2")
        prompt = SegPrompt(embedding=torch.zeros(1, 1, 256))
        for t in range(2):
            prediction = loaded.decode(features, None if t else prompt, memory=memory)
            loaded.remember(features, prediction, memory, frame_index=t, is_conditioning=t == 0)
    assert prediction.mask_logits.shape == (1, 256, 256)
    assert prediction.mask_logits.isfinite().all()


@pytest.mark.gpu
def test_cuda_bfloat16() -> None:
    """The same on a GPU: one frame prompted, one tracked; nothing leaves the device."""
    segmenter = Sam2Segmenter(REDUCED).to("cuda", torch.bfloat16).eval()
    memory = segmenter.new_memory("sam2")
    with torch.inference_mode():
        for t in range(3):
            features = segmenter.encode(segmenter.preprocess([np.zeros((50, 60, 3), dtype=np.uint8)]))
            prompt = prompts("epbm") if t == 0 else None
            prediction = segmenter.decode(features, prompt, memory=memory)
            segmenter.remember(features, prediction, memory, frame_index=t, is_conditioning=t == 0)
    assert prediction.mask_logits.is_cuda
    assert prediction.mask_logits.isfinite().all()
