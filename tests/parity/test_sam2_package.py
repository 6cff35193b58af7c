"""Our segmenter against the ``sam2`` package with random weights: image predictor and one tracked clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from refstream.models.segmenter.sam2 import Sam2Segmenter
from refstream.structures import SegPrompt

pytest.importorskip("sam2", reason="the sam2 package is the oracle here; make install installs it")

SIZE, HIDDEN, MEM = 64, 32, 16
REDUCED = {
    "image_size": SIZE,
    "hidden_dim": HIDDEN,
    "mem_dim": MEM,
    "trunk": {"embed_dim": 16, "num_heads": 2, "stages": [1, 2, 2, 1], "global_att_blocks": [4]},
    "memory_attention": {"layers": 2, "feedforward": 48},
}
VIDEO_SIZE = (48, 80)
TOLERANCE = 2e-4
FLAGS = (  # those that sam2/configs/sam2.1 and build_sam2_video_predictor set
    "use_mask_input_as_output_without_sam",
    "directly_add_no_mem_embed",
    "use_high_res_features_in_sam",
    "multimask_output_in_sam",
    "multimask_output_for_tracking",
    "use_multimask_token_for_obj_ptr",
    "iou_prediction_use_sigmoid",
    "use_obj_ptrs_in_encoder",
    "add_tpos_enc_to_obj_ptrs",
    "proj_tpos_enc_in_obj_ptrs",
    "use_signed_tpos_enc_to_obj_ptrs",
    "only_obj_ptrs_in_the_past_for_eval",
    "use_mlp_for_obj_ptr_proj",
    "pred_obj_scores",
    "pred_obj_scores_mlp",
    "fixed_no_obj_ptr",
    "no_obj_embed_spatial",
    "binarize_mask_from_pts_for_mem_enc",
)


def image_encoder() -> Any:
    from sam2.modeling.backbones.hieradet import Hiera
    from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    trunk = Hiera(
        embed_dim=16,
        num_heads=2,
        stages=(1, 2, 2, 1),
        global_att_blocks=(4,),
        window_pos_embed_bkg_spatial_size=(7, 7),
    )
    neck = FpnNeck(
        position_encoding=PositionEmbeddingSine(num_pos_feats=HIDDEN, normalize=True, image_size=SIZE),
        d_model=HIDDEN,
        backbone_channel_list=[128, 64, 32, 16],
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    return ImageEncoder(trunk=trunk, neck=neck, scalp=1)


def memory_modules() -> dict[str, Any]:
    from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
    from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine
    from sam2.modeling.sam.transformer import RoPEAttention

    def rope(**kwargs: Any) -> Any:
        return RoPEAttention(
            embedding_dim=HIDDEN, num_heads=1, downsample_rate=1, dropout=0.1, feat_sizes=(4, 4), **kwargs
        )

    layer = MemoryAttentionLayer(
        activation="relu",
        d_model=HIDDEN,
        dim_feedforward=48,
        dropout=0.1,
        pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        self_attention=rope(),
        cross_attention=rope(rope_k_repeat=True, kv_in_dim=MEM),
    )
    encoder = MemoryEncoder(
        out_dim=MEM,
        in_dim=HIDDEN,
        mask_downsampler=MaskDownSampler(embed_dim=HIDDEN, kernel_size=3, stride=2, padding=1),
        fuser=Fuser(CXBlock(dim=HIDDEN, kernel_size=7, padding=3), num_layers=2),
        position_encoding=PositionEmbeddingSine(num_pos_feats=MEM, normalize=True, image_size=SIZE),
    )
    attention = MemoryAttention(d_model=HIDDEN, pos_enc_at_input=True, layer=layer, num_layers=2)
    return {"memory_attention": attention, "memory_encoder": encoder}


def official(seed: int) -> Any:
    """A small video predictor as ``build_sam2_video_predictor`` sets it up, with random weights."""
    from sam2.sam2_video_predictor import SAM2VideoPredictor

    torch.manual_seed(seed)
    model = SAM2VideoPredictor(
        image_encoder=image_encoder(),
        **memory_modules(),
        num_maskmem=7,
        image_size=SIZE,
        sigmoid_scale_for_mem_enc=20.0,
        sigmoid_bias_for_mem_enc=-10.0,
        multimask_min_pt_num=0,
        multimask_max_pt_num=1,
        sam_mask_decoder_extra_args={
            "dynamic_multimask_via_stability": True,
            "dynamic_multimask_stability_delta": 0.05,
            "dynamic_multimask_stability_thresh": 0.98,
        },
        **dict.fromkeys(FLAGS, True),
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if (parameter.ndim == 1 and "norm" not in name) or "embed" in name or "tpos" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
        for layer in model.memory_encoder.fuser.layers:
            layer.gamma.uniform_(0.2, 0.6)
    return model


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Sam2Segmenter]:
    model = official(seed=3)
    return model, Sam2Segmenter(REDUCED, weights=model.state_dict()).eval()


def moving_square(t: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (*VIDEO_SIZE, 3), dtype=np.uint8)
    image[14:30, 10 + 3 * t : 28 + 3 * t] = (220, 90, 30)
    return image


PROMPTS: dict[str, dict[str, Any]] = {
    "point": {"point_coords": [[19.0, 22.0]], "point_labels": [1]},
    "points": {"point_coords": [[19.0, 22.0], [60.0, 8.0]], "point_labels": [1, 0]},
    "box": {"box": [10.0, 14.0, 28.0, 30.0]},
    "box_and_point": {"box": [10.0, 14.0, 28.0, 30.0], "point_coords": [[19.0, 22.0]], "point_labels": [1]},
    "mask": {"mask_input": True},
    "mask_and_point": {"mask_input": True, "point_coords": [[19.0, 22.0]], "point_labels": [1]},
}


def mask_input() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 4, (1, SIZE // 4, SIZE // 4)).astype(np.float32)


def seg_prompt(prompt: dict[str, Any]) -> SegPrompt:
    """The same prompt for us: pixels of the video -> pixels of the square input."""
    scale = torch.tensor([SIZE / VIDEO_SIZE[1], SIZE / VIDEO_SIZE[0]])
    parts: dict[str, Any] = {}
    if "point_coords" in prompt:
        parts["points_xy"] = torch.tensor([prompt["point_coords"]]) * scale
        parts["point_labels"] = torch.tensor([prompt["point_labels"]])
    if "box" in prompt:
        parts["box_xyxy"] = torch.tensor([prompt["box"]]) * scale.repeat(2)
    if "mask_input" in prompt:
        parts["mask_logits"] = torch.tensor(mask_input())[None]
    return SegPrompt(**parts)


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("name", PROMPTS)
@torch.no_grad()
def test_image_predictor(pair: tuple[Any, Sam2Segmenter], name: str, multimask: bool) -> None:
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    model, segmenter = pair
    predictor = SAM2ImagePredictor(model)
    predictor._bb_feat_sizes = [(SIZE // s, SIZE // s) for s in (4, 8, 16)]
    image = moving_square(0)
    predictor.set_image(image)
    given = {k: np.array(v) for k, v in PROMPTS[name].items() if k != "mask_input"}
    if "mask_input" in PROMPTS[name]:
        given["mask_input"] = mask_input()
    _, iou, low_res = predictor.predict(**given, multimask_output=multimask)

    features = segmenter.encode(segmenter.preprocess([image]))
    prediction = segmenter.decode(features, seg_prompt(PROMPTS[name]), multimask=multimask)
    torch.testing.assert_close(prediction.candidate_iou[0], torch.tensor(iou), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(
        prediction.candidate_logits[0].clamp(-32, 32), torch.tensor(low_res), rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("shift", [0.0, 0.2], ids=["mostly_absent", "visible"])
@pytest.mark.parametrize("prompt", ["point", "box"])
@torch.no_grad()
def test_tracked_clip(tmp_path: Path, prompt: str, shift: float) -> None:
    model = official(seed=3)
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.add_(shift)
    segmenter = Sam2Segmenter(REDUCED, weights=model.state_dict()).eval()
    num_frames = 10
    for t in range(num_frames):
        Image.fromarray(moving_square(t)).save(tmp_path / f"{t:05d}.jpg", quality=95)
    state = model.init_state(str(tmp_path))
    given = {
        {"point_coords": "points", "point_labels": "labels"}.get(k, k): v for k, v in PROMPTS[prompt].items()
    }
    model.add_new_points_or_box(state, frame_idx=0, obj_id=1, **given)
    for _ in model.propagate_in_video(state):
        pass
    outputs = state["output_dict_per_obj"][0]
    expected = {**outputs["cond_frame_outputs"], **outputs["non_cond_frame_outputs"]}

    memory = segmenter.new_memory({"type": "sam2", "known_num_frames": num_frames})
    first = seg_prompt(PROMPTS[prompt])
    visible = set()
    for t in range(num_frames):
        features = segmenter.encode(state["images"][t : t + 1])
        multimask = segmenter.wants_multimask(first) if t == 0 else True
        prediction = segmenter.decode(features, first if t == 0 else None, memory=memory, multimask=multimask)
        segmenter.remember(features, prediction, memory, frame_index=t, is_conditioning=t == 0)
        score = expected[t]["object_score_logits"][:, 0]
        visible.add(score.item() > 0)
        torch.testing.assert_close(prediction.object_score, score, rtol=0, atol=1e-3)
        torch.testing.assert_close(prediction.object_pointer, expected[t]["obj_ptr"], rtol=0, atol=1e-3)
        torch.testing.assert_close(prediction.mask_logits, expected[t]["pred_masks"][:, 0], rtol=0, atol=1e-3)
    assert (shift > 0) in visible
