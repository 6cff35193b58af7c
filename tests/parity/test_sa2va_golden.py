"""A released folder end to end, against what its own code does with it (``tests/golden/sa2va``)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from refstream.models.sa2va import OfflineAnswer, Sa2VAOffline, load_sa2va
from refstream.structures import MaskPrediction

CALLS = ("video_one", "video_two", "video_none", "frame0")


class Trace:
    """One call: its answer, and what went in and out of the parts."""

    def __init__(self) -> None:
        self.heads: list[MaskPrediction] = []
        self.seen: dict[str, list[Tensor]] = {"vit_pixels": [], "sam_pixels": [], "vision": [], "embeds": []}
        self.answer: OfflineAnswer


@pytest.fixture(scope="module")
def case(golden: Path) -> dict:
    return json.loads((golden / "sa2va" / "case.json").read_text())


@pytest.fixture(scope="module")
def traces(golden: Path, case: dict) -> dict[str, Trace]:
    """Every call of the case, run once."""
    model = load_sa2va(golden / "sa2va" / "model", compatible=True)
    offline = Sa2VAOffline(model)
    files = sorted((golden / "sa2va" / "frames").glob("*.png"))
    frames = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    assert len(frames) == 7
    return {call["name"]: run(offline, call, frames) for call in case["calls"]}


def run(offline: Sa2VAOffline, call: dict, frames: list[np.ndarray]) -> Trace:
    trace = Trace()
    mllm, segmenter = offline.model.mllm, offline.model.segmenter
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, key in (
            (mllm, "preprocess", "vit_pixels"),
            (mllm, "encode_images", "vision"),
            (mllm, "embed", "embeds"),
            (segmenter, "preprocess", "sam_pixels"),
        ):
            patch.setattr(owner, name, recording(getattr(owner, name), trace.seen[key]))
        patch.setattr(segmenter, "decode", recording(segmenter.decode, trace.heads))
        question = call["question"].removeprefix("<image>\n")
        trace.answer = (
            offline.image(frames[0], question)
            if call["inputs"] == "frame0"
            else offline.video(frames, question)
        )
    return trace


def recording(function, results: list):
    def wrapper(*args, **kwargs):
        results.append(function(*args, **kwargs))
        return results[-1]

    return wrapper


def arrays_of(trace: Trace) -> dict[str, np.ndarray]:
    """Our values under the names of the case."""
    answer, heads = trace.answer, trace.heads
    pixels, sam = trace.seen["vit_pixels"][0], trace.seen["sam_pixels"]
    (embeds,) = trace.seen["embeds"]
    found = {
        "vit_pixels_sample": pixels[:, :, ::32, ::32],
        "vision_tokens_sample": trace.seen["vision"][0][:, ::8],
        "prompt_length": torch.tensor(embeds.shape[1]),
        "prompt_embeds_tail": embeds[0, -24:],
        "output_ids": answer.ids,
        "answer_hidden": answer.answer_hidden,
        "prompt_last_hidden": answer.prompt_hidden,
        "seg_hidden": answer.seg_states,
        "seg_prompt": answer.prompts,
    }
    if heads:
        square = torch.cat(sam)
        stats = torch.stack([square.mean(dim=(1, 2, 3)), square.std(dim=(1, 2, 3))], dim=1)
        found |= {
            "sam_pixels_sample": square[:, :, ::16, ::16],
            "sam_pixels_mean_std": stats.flatten(),
            "head_calls_iou": by_object(heads, "candidate_iou"),
            "head_calls_object_score": by_object(heads, "object_score")[:, None],
            "head_calls_low_res": by_object(heads, "mask_logits"),
            "head_calls_candidates": by_object(heads, "candidate_logits"),
            "head_calls_pointer": by_object(heads, "object_pointer"),
        }
        found |= {f"object{i}_mask": torch.from_numpy(mask) for i, mask in enumerate(answer.masks)}
    return {name: value.numpy() for name, value in found.items()}


def by_object(heads: list[MaskPrediction], name: str) -> Tensor:
    """(objects * calls, ...): the release runs one object after the other, we run them together."""
    return torch.stack([getattr(head, name) for head in heads], dim=1).flatten(0, 1)


def expected_arrays(golden: Path, call: str) -> dict[str, np.ndarray]:
    with np.load(golden / "sa2va" / "result.npz") as stored:
        return {name.partition("/")[2]: stored[name] for name in stored if name.startswith(f"{call}/")}


def tolerance(case: dict, name: str) -> float:
    """As case.json states: ten times the deviation under weight noise, not below 1e-5."""
    noise = case["deviation_under_1e_7_weight_noise"]
    base = name.removesuffix("_sample") if name not in noise else name
    return max(1e-5, 10 * noise.get(base, 0.0))


@pytest.mark.parametrize("call", CALLS)
def test_arrays(golden: Path, case: dict, traces: dict[str, Trace], call: str) -> None:
    found = arrays_of(traces[call])
    for name, expected in expected_arrays(golden, call).items():
        value = found[name]
        assert value.shape == expected.shape, (name, value.shape, expected.shape)
        if name.endswith("_mask"):
            assert (value != expected).mean() <= 0.002, name
        else:
            np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance(case, name), err_msg=name)


def test_answers(case: dict, traces: dict[str, Trace]) -> None:
    assert {call["name"] for call in case["calls"]} == set(CALLS)
    for call in case["calls"]:
        answer = traces[call["name"]].answer
        assert answer.text == call["prediction"]
        assert len(answer.masks) == call["objects"]
        assert traces[call["name"]].seen["embeds"][0].shape[1] == call["prompt_tokens"]
        assert [round(float(mask.mean()), 4) for mask in answer.masks] == pytest.approx(
            call["foreground"], abs=2e-3
        )
