"""Sam1Segmenter against transformers' SamProcessor and SamModel with the same random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import SamImageProcessor, SamModel, SamProcessor

from refstream.models.masks import mask_iou
from refstream.models.segmenter.framing import cut_to_frame
from refstream.models.segmenter.sam1 import Sam1Segmenter
from refstream.structures import SegPrompt

S = 128
REDUCED: dict[str, Any] = dict(
    vision_config=dict(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=S,
        output_channels=32,
        window_size=3,
        global_attn_indexes=[1],
        num_pos_feats=16,
    ),
    prompt_encoder_config=dict(hidden_size=32, image_size=S, mask_input_channels=4),
    mask_decoder_config=dict(hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=32),
)
SIZES = [(100, 180), (190, 77), (128, 128), (60, 60), (2, 5)]
BOX = [0.1, 0.2, 0.7, 0.85]
POINTS, LABELS = [[0.3, 0.4], [0.9, 0.1], [0.5, 0.6]], [1, 0, -1]
KINDS = {"box": (True, False), "points": (False, True), "both": (True, True)}


@pytest.fixture(scope="module")
def pair() -> tuple[Sam1Segmenter, Any]:
    torch.manual_seed(0)
    ours = Sam1Segmenter(REDUCED).eval().requires_grad_(False)
    for name, parameter in ours.model.named_parameters():
        if name.endswith(("pos_embed", "rel_pos_h", "rel_pos_w")):
            torch.nn.init.normal_(parameter, std=0.5)
    theirs = SamModel(ours.config).eval().requires_grad_(False)
    theirs.load_state_dict(ours.model.state_dict())
    return ours, theirs


@pytest.fixture(scope="module")
def processor() -> Any:
    small = dict(mask_size={"longest_edge": S // 4}, mask_pad_size={"height": S // 4, "width": S // 4})
    return SamProcessor(
        SamImageProcessor(size={"longest_edge": S}, pad_size={"height": S, "width": S}, **small)
    )


def picture(size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(3)
    coarse = torch.tensor(rng.integers(0, 256, (1, 3, 6, 8)), dtype=torch.float32)
    smooth = F.interpolate(coarse, size, mode="bilinear")[0].permute(1, 2, 0)
    return smooth.round().byte().numpy()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("multimask", [True, False])
def test_one_prompt(
    pair: tuple[Sam1Segmenter, Any], processor: Any, size: tuple[int, int], kind: str, multimask: bool
) -> None:
    """Pixels, features, scores and every logit: the same to 1e-5, whatever the shape of the frame."""
    (ours, theirs), (height, width) = pair, size
    image, (with_box, with_points) = picture(size), KINDS[kind]
    given: dict[str, Any] = {}
    prompt: dict[str, torch.Tensor] = {}
    if with_box:
        given["input_boxes"] = [[[v * s for v, s in zip(BOX, (width, height) * 2, strict=True)]]]
        prompt["box_xyxy"] = torch.tensor([BOX]) * S
    if with_points:
        given |= {
            "input_points": [[[[x * width, y * height] for x, y in POINTS]]],
            "input_labels": [[LABELS]],
        }
        prompt |= {"points_xy": torch.tensor([POINTS]) * S, "point_labels": torch.tensor([LABELS])}
    inputs = processor(images=image, return_tensors="pt", **given)
    inputs = {k: v.float() if k in ("input_boxes", "input_points") else v for k, v in inputs.items()}
    extent = inputs.pop("reshaped_input_sizes")
    inputs.pop("original_sizes")
    expected = theirs(**inputs, multimask_output=multimask)

    pixels = ours.preprocess([image])
    torch.testing.assert_close(pixels.nan_to_num(0.0), inputs["pixel_values"], rtol=0, atol=1e-5)
    features = ours.encode(pixels)
    assert features.extent is not None
    assert features.extent.tolist() == extent.tolist()
    embedding = theirs.get_image_embeddings(inputs["pixel_values"])
    torch.testing.assert_close(features.embedding, embedding, rtol=0, atol=1e-5)
    found = ours.decode(features, SegPrompt(**prompt), multimask=multimask)
    torch.testing.assert_close(found.candidate_iou, expected.iou_scores[:, 0], rtol=0, atol=1e-5)
    cut = cut_to_frame(expected.pred_masks[:, 0], extent / S)
    torch.testing.assert_close(found.candidate_logits, cut, rtol=0, atol=1e-5)
    assert expected.pred_masks.std() > 1e-2  # not nothing
    best = int(expected.iou_scores[0, 0].argmax())
    torch.testing.assert_close(found.mask_logits[0], cut[0, best], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(1080, 1920), (854, 480), (700, 700)])
def test_masks_at_the_size_of_the_frame(size: tuple[int, int]) -> None:
    """A disc's mask after one resize here, and after transformers' two with a crop between."""
    extent = torch.tensor([[int(side * 1024 / max(size) + 0.5) for side in size]])
    steps = torch.arange(256) * 4.0 + 2
    rows, columns = extent[0].tolist()
    distance = ((steps[:, None] - 0.45 * rows) ** 2 + (steps - 0.6 * columns) ** 2).sqrt()
    low = (0.2 * min(rows, columns) - distance)[None, None] / 10
    (theirs,) = SamImageProcessor().post_process_masks([low], [size], [(rows, columns)])
    ours = F.interpolate(cut_to_frame(low, extent / 1024), size, mode="bilinear", align_corners=False)
    assert mask_iou(ours[0, 0] > 0, torch.as_tensor(theirs)[0, 0]) > 0.998
