"""Sam1Segmenter: its contract, prompts, dtypes, gradients, folders, errors; its numbers see tests/parity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import SamModel

from refstream.errors import UserError
from refstream.models.protocols import Segmenter
from refstream.models.segmenter.sam1 import Sam1Segmenter
from refstream.models.segmenter.sam1_config import sam1_config
from refstream.models.segmenter.sam2_config import size_config
from refstream.registry import MODELS
from refstream.structures import ImageFeatures, MaskPrediction, SegPrompt
from refstream.testing.small import SAM1

REDUCED: dict[str, Any] = SAM1


@pytest.fixture(scope="module")
def segmenter() -> Sam1Segmenter:
    torch.manual_seed(0)
    return Sam1Segmenter(REDUCED).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def features(segmenter: Sam1Segmenter) -> ImageFeatures:
    """A wide frame and a high one."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((40, 70), (90, 30))]
    return segmenter.encode(segmenter.preprocess(images))


def prompts(kinds: str) -> SegPrompt:
    """Two prompts with an (e)mbedding, (p)oints, a (b)ox."""
    draw = torch.Generator().manual_seed(1)
    parts: dict[str, Tensor] = {}
    if "e" in kinds:
        parts["embedding"] = torch.randn(2, 3, 32, generator=draw)
    if "p" in kinds:
        labels = torch.tensor([[1, 0], [1, -1]])
        parts |= {"points_xy": 64 * torch.rand(2, 2, 2, generator=draw), "point_labels": labels}
    if "b" in kinds:
        parts["box_xyxy"] = torch.tensor([8.0, 9.0, 40.0, 50.0]) + 4 * torch.rand(2, 4, generator=draw)
    return SegPrompt(**parts)


def part(prompt: SegPrompt, index: int) -> SegPrompt:
    values = {name: getattr(prompt, name) for name in prompt.__dataclass_fields__}
    return SegPrompt(**{k: None if v is None else v[index : index + 1] for k, v in values.items()})


def same(left: MaskPrediction, right: MaskPrediction) -> None:
    for name in left.__dataclass_fields__:
        torch.testing.assert_close(getattr(left, name), getattr(right, name), rtol=1e-4, atol=1e-5)


def test_contract(segmenter: Sam1Segmenter, features: ImageFeatures) -> None:
    assert isinstance(segmenter, Segmenter)
    assert (segmenter.image_size, segmenter.prompt_dim, segmenter.mask_size) == (64, 32, 16)
    assert features.embedding.shape == (2, 32, 4, 4)
    assert [f.shape for f in features.high_res] == [(2, 0, 16, 16), (2, 0, 8, 8)]
    assert features.extent is not None
    assert features.extent.tolist() == [[37, 64], [64, 21]]
    found = segmenter.decode(features, prompts("pb"))
    assert found.mask_logits.shape == (2, 16, 16)
    assert found.candidate_logits.shape == (2, 3, 16, 16)
    chosen = found.candidate_logits[torch.arange(2), found.candidate_iou.argmax(1)]
    assert torch.equal(found.mask_logits, chosen)
    assert ((found.pred_iou >= 0) & (found.pred_iou <= 1)).all()
    assert torch.equal(found.object_score > 0, (found.mask_logits > 0).flatten(1).any(1))
    assert found.object_pointer.shape == (2, 0)
    assert found[1].mask_logits.shape == (1, 16, 16)
    single = segmenter.decode(features, prompts("b"), multimask=False)
    assert single.candidate_logits.shape == (2, 1, 16, 16)


@pytest.mark.parametrize("kinds", ["e", "p", "b", "ep", "eb", "pb", "epb"])
def test_prompts_are_independent(segmenter: Sam1Segmenter, features: ImageFeatures, kinds: str) -> None:
    """N prompts give what each gives alone: on one shared image, and on frames of two shapes."""
    prompt = prompts(kinds)
    shared, paired = segmenter.decode(features[0], prompt), segmenter.decode(features, prompt)
    taken = segmenter.decode(features.take(torch.tensor([1, 0])), prompt)
    for i in range(2):
        same(shared[i], segmenter.decode(features[0], part(prompt, i)))
        same(paired[i], segmenter.decode(features[i], part(prompt, i)))
        same(taken[i], segmenter.decode(features[1 - i], part(prompt, i)))


def test_an_embedding_alone_is_all_that_the_decoder_gets(
    segmenter: Sam1Segmenter, features: ImageFeatures
) -> None:
    prompt = prompts("e")
    assert prompt.embedding is not None
    masks, iou = segmenter.model.mask_decoder(
        image_embeddings=features.embedding,
        image_positional_embeddings=segmenter.model.get_image_wide_positional_embeddings(),
        sparse_prompt_embeddings=prompt.embedding[:, None],
        dense_prompt_embeddings=segmenter.model.prompt_encoder.no_mask_embed.weight[:, :, None, None],
        multimask_output=True,
    )
    whole = ImageFeatures(features.embedding, features.high_res, features.position)  # no extent: all of it
    found = segmenter.decode(whole, prompt)
    torch.testing.assert_close(found.candidate_logits, masks[:, 0])
    torch.testing.assert_close(found.candidate_iou, iou[:, 0])


def test_half_the_frame_is_half_the_mask(segmenter: Sam1Segmenter) -> None:
    """A wide frame, and its padded square taken for a frame: the one's mask is the other's upper half."""
    rng = np.random.default_rng(1)
    wide = rng.integers(0, 256, (32, 64, 3), dtype=np.uint8)
    pixels = segmenter.preprocess([wide])
    box = torch.tensor([[10.0, 10.0, 40.0, 50.0]])
    framed = segmenter.decode(segmenter.encode(pixels), SegPrompt(box_xyxy=box))
    padded = segmenter.encode(pixels.nan_to_num(0.0))  # the same pixels, now as a square frame
    assert padded.extent is not None
    assert padded.extent.tolist() == [[64, 64]]
    square = segmenter.decode(padded, SegPrompt(box_xyxy=box * torch.tensor([1, 0.5, 1, 0.5])))
    torch.testing.assert_close(framed.candidate_iou, square.candidate_iou)
    upper = square.candidate_logits[:, :, :8]
    near, far = upper[:, :, :-1], upper[:, :, 1:]
    torch.testing.assert_close(framed.candidate_logits[:, :, 1:-1:2], near * 0.75 + far * 0.25)
    torch.testing.assert_close(framed.candidate_logits[:, :, 2:-1:2], near * 0.25 + far * 0.75)


@pytest.mark.parametrize("name", ["box_xyxy", "points_xy", "embedding"])
def test_gradients_reach_prompts(segmenter: Sam1Segmenter, features: ImageFeatures, name: str) -> None:
    prompt = prompts({"box_xyxy": "b", "points_xy": "p", "embedding": "e"}[name])
    leaf = getattr(prompt, name).requires_grad_()
    segmenter.decode(features, prompt).mask_logits.square().mean().backward()
    assert leaf.grad is not None
    assert (leaf.grad[0] != 0).any()


def test_bfloat16(segmenter: Sam1Segmenter) -> None:
    half = Sam1Segmenter(REDUCED, weights=segmenter.model.state_dict()).eval().requires_grad_(False)
    half = half.to(torch.bfloat16)
    matrix = half.model.shared_image_embedding.positional_embedding
    assert (half.dtype, matrix.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(matrix, segmenter.model.shared_image_embedding.positional_embedding)
    assert not any("positional_embedding" in name for name, _ in half.model.named_parameters())
    image = np.full((20, 30, 3), 200, dtype=np.uint8)
    found = half.decode(half.encode(half.preprocess([image])), prompts("pb"))
    full = segmenter.decode(segmenter.encode(segmenter.preprocess([image])), prompts("pb"))
    assert found.mask_logits.dtype == found.pred_iou.dtype == found.object_score.dtype == torch.float32
    apart = (found.candidate_logits - full.candidate_logits).abs().max()
    assert apart < 0.05 * full.candidate_logits.abs().max()


@pytest.mark.parametrize(
    ("prompt", "error", "match"),
    [
        (SegPrompt(mask_logits=torch.zeros(2, 1, 16, 16)), UserError, "not by masks"),
        (SegPrompt(box_xyxy=torch.zeros(3, 4)), ValueError, "3 prompts need 1 or 3 images, got 2"),
        (SegPrompt(box_xyxy=torch.zeros(2, 2)), ValueError, "boxes must be"),
        (SegPrompt(embedding=torch.zeros(2, 1, 8)), ValueError, "embeddings must be"),
        (
            SegPrompt(points_xy=torch.zeros(2, 3, 2), point_labels=torch.zeros(2, 2)),
            ValueError,
            "points must be",
        ),
        (None, ValueError, "nothing to segment"),
    ],
)
def test_misfits(
    segmenter: Sam1Segmenter, features: ImageFeatures, prompt: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        segmenter.decode(features, prompt)


def test_no_memory(segmenter: Sam1Segmenter, features: ImageFeatures) -> None:
    with pytest.raises(UserError, match="SAM 1 has no memory"):
        segmenter.new_memory({"type": "sam2"})
    with pytest.raises(UserError, match="SAM 1 has no memory"):
        segmenter.decode(features, prompts("b"), memory=object())
    with pytest.raises(ValueError, match="expected pixels"):
        segmenter.encode(torch.zeros(1, 3, 32, 64))


def test_configurations(segmenter: Sam1Segmenter) -> None:
    stored = json.loads(json.dumps(segmenter.config.to_dict()))
    again = MODELS.build(dict(type="Sam1Segmenter", config=stored))
    assert again.config.to_dict() == segmenter.config.to_dict()
    sizes = {"base": (768, 93.7), "large": (1024, 312.3), "huge": (1280, 641.1)}
    for size, (width, parameters) in sizes.items():
        with torch.device("meta"):
            built = MODELS.build(dict(type="Sam1Segmenter", config=dict(size=size)))
        assert built.config.vision_config.hidden_size == width
        assert sum(p.numel() for p in built.parameters()) / 1e6 == pytest.approx(parameters, abs=0.05)
        assert built.image_size == 1024
    huge: Any = sam1_config(dict(size="huge")).vision_config
    assert list(huge.global_attn_indexes) == [7, 15, 23, 31]
    wrong: dict[str, dict[str, Any]] = {
        "has the sizes": dict(size="tiny"),
        "model_type 'sam'": size_config("tiny").to_dict(),
        "one width": {**REDUCED, "vision_config": {**REDUCED["vision_config"], "output_channels": 64}},
        "encoders differ": {**REDUCED, "vision_config": {**REDUCED["vision_config"], "image_size": 128}},
    }
    for match, config in wrong.items():
        with pytest.raises(ValueError, match=match):
            Sam1Segmenter(config)


def test_transformers_folder(tmp_path: Path, segmenter: Sam1Segmenter, features: ImageFeatures) -> None:
    """As ``facebook/sam-vit-base`` is published: its two equal position matrices are one in the file."""
    theirs = SamModel(segmenter.config)
    theirs.load_state_dict(segmenter.model.state_dict())
    theirs.save_pretrained(tmp_path)
    loaded = Sam1Segmenter.from_pretrained(tmp_path)
    same(loaded.decode(features, prompts("pb")), segmenter.decode(features, prompts("pb")))
    other = Sam1Segmenter(REDUCED)
    other.load_weights(segmenter.model.state_dict())
    same(other.eval().decode(features, prompts("b")), segmenter.decode(features, prompts("b")))
    state = dict(segmenter.model.state_dict())
    state.pop("mask_decoder.iou_token.weight")
    with pytest.raises(ValueError, match=r"missing: mask_decoder\.iou_token\.weight"):
        other.load_weights(state)
    with pytest.raises(ValueError, match="Meta's names"):
        other.load_weights({"image_encoder.pos_embed": torch.zeros(1)})
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors"):
        Sam1Segmenter.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        Sam1Segmenter.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no config\.json.*SAM 1"):
        Sam1Segmenter.from_pretrained(tmp_path / "nowhere")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda() -> None:
    segmenter = Sam1Segmenter(REDUCED).to("cuda", torch.bfloat16).eval()
    with torch.inference_mode():
        images = [np.zeros((50, 60, 3), dtype=np.uint8)]
        found = segmenter.decode(segmenter.encode(segmenter.preprocess(images)), prompts("epb"))
    assert found.mask_logits.is_cuda
    assert found.mask_logits.isfinite().all()
