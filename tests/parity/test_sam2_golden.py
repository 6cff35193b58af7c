"""Parts and tracks of SAM 2.0 and 2.1 against values of the official code (golden case ``sam2``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from refstream.checkpoints.safe import load_state
from refstream.checkpoints.sam2 import VERSION_KEYS
from refstream.models.segmenter.conditioning import attend_memory, fuse_memory, memory_map
from refstream.models.segmenter.position import sine_grid
from refstream.models.segmenter.prompts import dense_position, embed_masks, embed_points, null_points
from refstream.models.segmenter.pyramid import pyramid
from refstream.models.segmenter.sam2 import Sam2Segmenter
from refstream.structures import ImageFeatures, MaskPrediction, SegPrompt

VERSIONS = ("2.0", "2.1")
SCENARIOS = ("point_6", "point_20", "box_8", "mask_8", "two_points_2cond_18", "two_objects_6")
PART_TOLERANCE = 2e-4


class Golden:
    """The case, its frames and a model per version, with every frame encoded once."""

    def __init__(self, folder: Path) -> None:
        self.case = json.loads((folder / "case.json").read_text())
        self.frames = dict(np.load(folder / "frames.npz"))
        self.parts = {k: torch.tensor(v) for k, v in np.load(folder / "parts.npz").items()}
        self.tracks = {v: dict(np.load(folder / f"tracks_v{v.replace('.', '')}.npz")) for v in VERSIONS}
        weights = {k: v.float() for k, v in load_state(folder / "weights.safetensors").items()}
        self.segmenters = {}
        for version in VERSIONS:
            kept = {k: v for k, v in weights.items() if version == "2.1" or k not in VERSION_KEYS}
            self.segmenters[version] = Sam2Segmenter.from_reduced(self.case["reduced_config"], version)
            self.segmenters[version].load_weights(kept)
        with torch.no_grad():
            segmenter = self.segmenters["2.1"]
            self.pixels = segmenter.preprocess(list(self.frames["frames"]))
            self.features = segmenter.encode(self.pixels)

    def tolerance(self, version: str, name: str) -> float:
        """Five times the deviation under tiny input noise, at least 2e-4."""
        return max(2e-4, 5 * self.case["scenarios"][version]["observed_deviation"].get(name, 0.0))


@pytest.fixture(scope="module")
def sam2(golden: Path) -> Golden:
    return Golden(golden / "sam2")


def close(actual: Tensor, expected: Tensor | np.ndarray, tolerance: float = PART_TOLERANCE) -> None:
    expected = torch.as_tensor(expected)
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=tolerance)


@torch.no_grad()
def test_encoder(sam2: Golden) -> None:
    model = sam2.segmenters["2.1"].model
    stages = model.vision_encoder.backbone(sam2.pixels[:1]).intermediate_hidden_states
    for i, stage in enumerate(stages):
        close(stage[0].permute(2, 0, 1), sam2.parts[f"trunk_stage{i}"])
    for i, level in enumerate(pyramid(model, stages)):
        close(level[0], sam2.parts[f"fpn_level{i}"])
    features = sam2.features[0]
    close(features.position[0], sam2.parts["fpn_pos2"])
    for i in range(2):
        close(features.high_res[i][0], sam2.parts[f"decoder_highres{i}"])


def tokens(sam2: Golden, name: str) -> tuple[Tensor, Tensor | None]:
    """Sparse tokens and dense map as the official prompt encoder gives them for one prompt of the case."""
    model, parts = sam2.segmenters["2.1"].model, sam2.parts
    box = embed_points(model, parts["in_box"].reshape(1, 2, 2), torch.tensor([[2, 3]]))
    points = embed_points(model, parts["in_points"], parts["in_point_labels"])
    mask = embed_masks(model, parts["in_mask_logits"])
    if name == "points":
        return torch.cat((points, null_points(model, 1, 1)), dim=1), None
    if name == "box":
        return box, None
    if name == "mask":
        return null_points(model, 1, 0), mask
    if name == "language":
        return torch.cat((null_points(model, 1, 2), parts["in_extra_sparse"][None]), dim=1), None
    return torch.cat((points, box), dim=1), mask


@torch.no_grad()
def test_prompt_encoder(sam2: Golden) -> None:
    parts = sam2.parts
    for name in ("points", "box", "mask", "all"):
        close(tokens(sam2, name)[0][0], parts[f"prompt_{name}_sparse"])
    close(tokens(sam2, "all")[0][0], parts["prompt_box_points_sparse"])
    dense = tokens(sam2, "mask")[1]
    assert dense is not None
    close(dense[0], parts["prompt_mask_dense"])
    close(dense_position(sam2.segmenters["2.1"].model)[0], parts["prompt_dense_pe"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", ["multi", "single"])
@pytest.mark.parametrize("name", ["points", "box", "mask", "language"])
@torch.no_grad()
def test_mask_decoder(sam2: Golden, name: str, mode: str, version: str) -> None:
    segmenter, features = sam2.segmenters[version], sam2.features[0]
    image = features.embedding + segmenter.model.no_memory_embedding.reshape(1, -1, 1, 1)
    sparse, dense = tokens(sam2, name)
    result = segmenter.run_heads(image, features.high_res, sparse, dense, mode == "multi")
    for value, kind in zip(result, ("masks", "ious", "tokens", "score"), strict=True):
        close(
            value[0].reshape_as(sam2.parts[f"decoder_{name}_{mode}_{kind}"]),
            sam2.parts[f"decoder_{name}_{mode}_{kind}"],
        )


@torch.no_grad()
def test_single_mask_without_fallback(sam2: Golden) -> None:
    segmenter, features = sam2.segmenters["2.1"], sam2.features[0]
    image = features.embedding + segmenter.model.no_memory_embedding.reshape(1, -1, 1, 1)
    decoder = segmenter.model.mask_decoder
    decoder.dynamic_multimask_via_stability = False
    try:
        masks, iou, _, _ = segmenter.run_heads(image, features.high_res, tokens(sam2, "box")[0], None, False)
    finally:
        decoder.dynamic_multimask_via_stability = True
    close(masks[0], sam2.parts["decoder_box_single_nofallback_masks"])
    close(iou[0], sam2.parts["decoder_box_single_nofallback_ious"])


@pytest.mark.parametrize(("name", "mode"), [("points", "multi"), ("points", "single"), ("language", "multi")])
@torch.no_grad()
def test_decode_is_the_same_path(sam2: Golden, name: str, mode: str) -> None:
    parts = sam2.parts
    prompt = (
        SegPrompt(points_xy=parts["in_points"], point_labels=parts["in_point_labels"])
        if name == "points"
        else SegPrompt(embedding=parts["in_extra_sparse"][None])
    )
    prediction = sam2.segmenters["2.1"].decode(sam2.features[0], prompt, multimask=mode == "multi")
    close(prediction.candidate_logits[0], parts[f"decoder_{name}_{mode}_masks"])
    close(prediction.candidate_iou[0], parts[f"decoder_{name}_{mode}_ious"])
    close(prediction.object_score, parts[f"decoder_{name}_{mode}_score"])


@torch.no_grad()
def test_memory_encoder(sam2: Golden) -> None:
    model, embedding = sam2.segmenters["2.1"].model, sam2.features[0].embedding
    logits = F.interpolate(sam2.parts["in_mask_logits"], (128, 128), mode="bilinear", align_corners=False)
    close(memory_map(model, embedding, logits)[0], sam2.parts["memenc_raw_features"])
    close(memory_map(model, embedding, logits.sigmoid())[0], sam2.parts["memenc_sigmoid_features"])
    close(sine_grid(8, 8, 8, torch.device("cpu"))[0], sam2.parts["memenc_pos"])


@torch.no_grad()
def test_memory_attention(sam2: Golden) -> None:
    features = sam2.features[0]
    queries = (features.embedding + 0.1 * features.position).flatten(2).transpose(1, 2)
    fused = attend_memory(
        sam2.segmenters["2.1"].model,
        queries,
        sam2.parts["in_memory"][None],
        sam2.parts["in_memory_pos"][None],
        (8, 8),
        pointers=8,
    )
    close(fused[0], sam2.parts["memory_attention_out"])


def seg_prompt(prompt: dict[str, Any], scale: tuple[float, float]) -> SegPrompt:
    """A prompt in video pixels -> one in pixels of the square input."""
    if "box" in prompt:
        return SegPrompt(box_xyxy=torch.tensor([prompt["box"]]) * torch.tensor(scale * 2))
    points = torch.tensor([prompt["points"]]) * torch.tensor(scale)
    return SegPrompt(points_xy=points, point_labels=torch.tensor([prompt["labels"]]))


class Track:
    """One object through a scenario."""

    def __init__(
        self, sam2: Golden, version: str, scenario: dict[str, Any], prompts: list[dict[str, Any]]
    ) -> None:
        segmenter = sam2.segmenters[version]
        self.memory = segmenter.new_memory({"type": "sam2", "known_num_frames": scenario["frames"]})
        self.predictions: dict[int, MaskPrediction] = {}
        self.prompted: list[MaskPrediction] = []
        self.fused: list[Tensor] = []
        self.maps: dict[int, Tensor] = {}
        scale = (128 / scenario["video_width"], 128 / scenario["video_height"])
        for prompt in prompts:
            t = prompt["frame"]
            if "mask" in prompt:
                prediction = segmenter.from_mask(sam2.features[t], torch.tensor(sam2.frames["mask0"])[None])
            else:
                given = seg_prompt(prompt, scale)
                prediction = segmenter.decode(
                    sam2.features[t],
                    given,
                    memory=self.memory,
                    multimask=segmenter.wants_multimask(given),
                    is_conditioning=True,
                )
            self.prompted.append(prediction)
            self._keep(segmenter, sam2.features[t], t, prediction, True)
        for t in range(scenario["frames"]):
            if t not in self.predictions:
                read = self.memory.read(t)
                assert read is not None
                self.fused.append(fuse_memory(segmenter.model, sam2.features[t], read))
                prediction = segmenter.decode(sam2.features[t], None, memory=self.memory, frame_index=t)
                self._keep(segmenter, sam2.features[t], t, prediction, False)

    def _keep(
        self,
        segmenter: Sam2Segmenter,
        features: ImageFeatures,
        t: int,
        prediction: MaskPrediction,
        prompted: bool,
    ) -> None:
        self.predictions[t] = prediction
        segmenter.remember(features, prediction, self.memory, frame_index=t, is_conditioning=prompted)
        (entry,) = [e for e in self.memory.entries() if e.frame_index == t]
        assert entry.features is not None
        self.maps[t] = entry.features

    def stack(self, name: str) -> Tensor:
        return torch.cat([getattr(self.predictions[t], name) for t in sorted(self.predictions)])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SCENARIOS)
@torch.no_grad()
def test_track(sam2: Golden, name: str, version: str) -> None:
    scenario = sam2.case["scenarios"][version]["tracks"][name]
    expected = {k.split("/")[1]: v for k, v in sam2.tracks[version].items() if k.startswith(name + "/")}
    objects = sorted({prompt.get("obj", 1) for prompt in scenario["prompts"]})
    tracks = [
        Track(sam2, version, scenario, [p for p in scenario["prompts"] if p.get("obj", 1) == obj])
        for obj in objects
    ]

    def check(key: str, actual: Tensor) -> None:
        close(actual, expected[key], sam2.tolerance(version, f"{name}/{key}"))

    check("low_res_logits", torch.stack([t.stack("mask_logits") for t in tracks]))
    check("object_score_logits", torch.stack([t.stack("object_score") for t in tracks]))
    check("object_pointer", torch.stack([t.stack("object_pointer") for t in tracks]))
    prompted = [prediction for track in tracks for prediction in track.prompted]
    for i, prediction in enumerate(prompted):
        check(f"prompt{i}_candidate_ious", prediction.candidate_iou)
        if f"prompt{i}_candidate_low_res" in expected:
            check(f"prompt{i}_candidate_low_res", prediction.candidate_logits)
    tracked = [t for t in range(scenario["frames"]) if t not in {p["frame"] for p in scenario["prompts"]}]
    ious = [track.predictions[t].candidate_iou for t in tracked for track in tracks]
    check("tracked_candidate_ious", torch.cat(ious))
    # The case counts a mask prompt as a call that fuses memory, so there its sample begins one frame later.
    first = 1 if "mask" in scenario["prompts"][0] else 0
    fused = [track.fused[i] for i in range(first, len(tracked)) for track in tracks][:2]
    # Same sensitivity to rounding as the logits made from them.
    tolerance = sam2.tolerance(version, f"{name}/low_res_logits")
    close(torch.cat(fused), expected["fused_features_sample"], tolerance)
    last = scenario["frames"] - 1
    for track, sample in zip(tracks, expected["memory_features_sample"], strict=True):
        for t, reference in zip((0, 1, last), torch.tensor(sample), strict=True):
            # Stored in bfloat16: a value near a rounding boundary may land one step (2^-8) away.
            torch.testing.assert_close(track.maps[t][0].float(), reference, rtol=2**-7, atol=PART_TOLERANCE)


@torch.no_grad()
def test_two_objects_share_one_memory(sam2: Golden) -> None:
    """N objects decoded together give what they give one by one."""
    segmenter = sam2.segmenters["2.1"]
    scenario = sam2.case["scenarios"]["2.1"]["tracks"]["two_objects_6"]
    scale = (128 / scenario["video_width"], 128 / scenario["video_height"])
    given = [seg_prompt(p, scale) for p in scenario["prompts"]]
    both = SegPrompt(
        points_xy=torch.cat([p.points_xy for p in given if p.points_xy is not None]),
        point_labels=torch.cat([p.point_labels for p in given if p.point_labels is not None]),
    )
    memory = segmenter.new_memory({"type": "sam2", "known_num_frames": 6})
    logits = []
    for t in range(6):
        prediction = segmenter.decode(
            sam2.features[t], both if t == 0 else None, memory=memory, frame_index=t
        )
        segmenter.remember(sam2.features[t], prediction, memory, frame_index=t, is_conditioning=t == 0)
        logits.append(prediction.mask_logits)
    close(
        torch.stack(logits, dim=1),
        sam2.tracks["2.1"]["two_objects_6/low_res_logits"],
        sam2.tolerance("2.1", "two_objects_6/low_res_logits"),
    )
