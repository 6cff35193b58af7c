"""What a tracker promises: prompts, causality, bounded state, orders, several expressions, bad input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects.virst.memory import AnchorMemory
from refstream_projects.virst.tracker import ORDERS, Tracker, track
from torch import Tensor

from refstream.errors import UserError
from refstream.models.segmenter.memory import MemoryRead
from refstream.models.segmenter.sam2 import Sam2Segmenter
from refstream.structures import ImageFeatures, MaskPrediction

REDUCED: dict[str, Any] = {
    "image_size": 32,
    "hidden_dim": 32,
    "mem_dim": 8,
    "trunk": {"embed_dim": 8, "num_heads": 1, "stages": [1, 1, 2, 1], "global_att_blocks": [3]},
    "memory_attention": {"layers": 1, "feedforward": 16},
    "mask_decoder": {"mlp": 32},
}


@pytest.fixture(scope="module")
def segmenter() -> Sam2Segmenter:
    torch.manual_seed(0)
    return Sam2Segmenter.from_reduced(REDUCED).requires_grad_(False)


@pytest.fixture(scope="module")
def clip(segmenter: Sam2Segmenter) -> list[ImageFeatures]:
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        return [segmenter.encode(segmenter.preprocess([image])) for image in images]


def vectors(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


class Counted(list[ImageFeatures]):
    """Features that notice how often each is taken."""

    def __init__(self, features: list[ImageFeatures]) -> None:
        super().__init__(features)
        self.taken = [0] * len(features)

    def __getitem__(self, index: Any) -> Any:
        self.taken[index] += 1
        return super().__getitem__(index)


@pytest.fixture
def sparse_counts(segmenter: Sam2Segmenter, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sparse tokens each call of the mask decoder gets."""
    counts: list[int] = []
    heads = segmenter.run_heads

    def counted(image: Tensor, high_res: Any, sparse: Tensor, dense: Any, multimask: bool) -> Any:
        counts.append(sparse.shape[1])
        assert dense is None
        return heads(image, high_res, sparse, dense, multimask)

    monkeypatch.setattr(segmenter, "run_heads", counted)
    return counts


@torch.inference_mode()
def test_prompt_count_and_one_use_of_every_frame(
    segmenter: Sam2Segmenter, clip: list[ImageFeatures], sparse_counts: list[int]
) -> None:
    counted = Counted(clip)
    track(segmenter, counted, vectors(16, 10, 32), [0, 8, 15], segmenter.new_memory("tdau"))
    assert sparse_counts == [10 if t in (0, 8, 15) else 2 for t in range(16)]
    assert counted.taken == [1] * 16


@pytest.mark.parametrize("order", ORDERS)
@torch.inference_mode()
def test_shapes_and_several_expressions(
    segmenter: Sam2Segmenter, clip: list[ImageFeatures], order: str
) -> None:
    prompts = vectors(2, 16, 5, 32)
    both = track(segmenter, clip, prompts, [0, 5, 9], segmenter.new_memory("tdau"), order=order)
    assert len(both) == 16
    assert both[3].mask_logits.shape == (2, 8, 8)
    assert both[3].candidate_logits.shape == (2, 3, 8, 8)
    for q in range(2):
        alone = track(segmenter, clip, prompts[q], [0, 5, 9], segmenter.new_memory("tdau"), order=order)
        for together, single in zip(both, alone, strict=True):
            for name in ("mask_logits", "object_score", "pred_iou"):
                expected = getattr(single, name)
                torch.testing.assert_close(getattr(together[q], name), expected, rtol=1e-3, atol=1e-3)


CAUSAL = dict(type="tdau", anchors="recent", alpha=2)


def logits(predictions: list[MaskPrediction]) -> Tensor:
    return torch.cat([p.candidate_logits for p in predictions])


@torch.inference_mode()
def test_causality(segmenter: Sam2Segmenter, clip: list[ImageFeatures]) -> None:
    """Frames after t, and their prompts, do not move outputs up to t; in the release's order they do."""
    prompts, anchors, cut = vectors(16, 4, 32), [0, 5, 9, 13], 7
    changed_prompts = prompts.clone()
    changed_prompts[cut + 1 :] += 1
    changed_clip = clip[: cut + 1] + clip[:cut:-1]

    def run(features: list[ImageFeatures], given: Tensor, order: str, **memory: Any) -> Tensor:
        return logits(track(segmenter, features, given, anchors, segmenter.new_memory(memory), order=order))

    causal = run(clip, prompts, "time", **CAUSAL)
    moved = run(changed_clip, changed_prompts, "time", **CAUSAL)
    assert torch.equal(causal[: cut + 1], moved[: cut + 1])
    assert not torch.equal(causal[cut + 1 :], moved[cut + 1 :])
    seen = run(clip, prompts, "anchors_first", type="tdau")
    assert not torch.equal(
        seen[: cut + 1], run(changed_clip, changed_prompts, "anchors_first", type="tdau")[: cut + 1]
    )
    assert torch.equal(causal, run(clip, prompts, "time", type="tdau", alpha=2))  # nothing ahead is known


@torch.inference_mode()
def test_online_is_the_same_as_offline_in_order_of_time(
    segmenter: Sam2Segmenter, clip: list[ImageFeatures]
) -> None:
    prompts, anchors = vectors(16, 4, 32), [0, 5, 9]
    tracker = Tracker(segmenter, segmenter.new_memory(CAUSAL))
    steps = [tracker.step(f, prompts[t] if t in anchors else None) for t, f in enumerate(clip)]
    offline = track(segmenter, clip, prompts, anchors, segmenter.new_memory(CAUSAL))
    assert torch.equal(logits(steps), logits(offline))


class Recording(AnchorMemory):
    """Notes which anchors each frame read: [frame, anchors ...]."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[list[int]] = []

    def read(self, frame_index: int) -> MemoryRead | None:
        found = super().read(frame_index)
        assert found is not None
        self.reads.append([frame_index, *(e.frame_index for e, row in found.maps if row == -1)])
        return found


@torch.inference_mode()
def test_same_memory_order_in_training_and_at_inference(
    segmenter: Sam2Segmenter, clip: list[ImageFeatures]
) -> None:
    """ "time" reads the same bank in both; the release's two orders differ on one clip."""
    prompts, anchors = vectors(16, 4, 32), [0, 5, 9]
    reads = {}
    for order in ORDERS:
        memory = Recording()
        track(segmenter, clip, prompts, anchors, memory, order=order)
        reads[order] = memory.reads
    assert reads["time"] == reads["first_anchor"]
    assert reads["time"][:2] == [[1, 0], [2, 0]]
    assert reads["anchors_first"][:2] == [[1, 0, 5, 9], [2, 0, 5, 9]]


@torch.inference_mode()
def test_state_is_bounded(segmenter: Sam2Segmenter, clip: list[ImageFeatures]) -> None:
    tracker = Tracker(segmenter, segmenter.new_memory(CAUSAL))
    prompt, sizes = vectors(4, 32), {}
    for t in range(101):
        tracker.step(clip[t % 16], prompt if t % 10 == 0 else None)
        sizes[t] = tracker.memory.num_bytes
    assert sizes[50] == sizes[100] > 0
    assert max(sizes.values()) <= 1.3 * sizes[50]


@torch.inference_mode()
def test_decoding_changes_nothing_until_it_is_committed(
    segmenter: Sam2Segmenter, clip: list[ImageFeatures]
) -> None:
    prompt = vectors(4, 32)
    tracker = Tracker(segmenter, segmenter.new_memory(CAUSAL))
    tracker.step(clip[0], prompt)
    before = tracker.memory.entries()
    tracked = tracker.decode(clip[1])
    anchored = tracker.decode(clip[1], prompt)
    assert tracker.memory.entries() == before
    assert not torch.equal(tracked.mask_logits, anchored.mask_logits)
    tracker.commit(clip[1], anchored, is_anchor=True)
    assert [e.is_conditioning for e in tracker.memory.entries()] == [True, True]
    assert tracker.memory.last_index == 1


@pytest.mark.parametrize("times", [None, [4, 5, 9, 10]])
@torch.inference_mode()
def test_times_are_the_indices_of_the_memory(
    segmenter: Sam2Segmenter, clip: list[ImageFeatures], times: list[int] | None
) -> None:
    memory = segmenter.new_memory("tdau")
    track(segmenter, clip[:4], vectors(4, 3, 32), [0], memory, times=times)
    assert sorted(e.frame_index for e in memory.entries()) == (times or [0, 1, 2, 3])


@pytest.mark.parametrize("order", ORDERS)
@torch.inference_mode()
def test_one_frame(segmenter: Sam2Segmenter, clip: list[ImageFeatures], order: str) -> None:
    memory = segmenter.new_memory(dict(type="tdau", known_num_frames=1))
    found = track(segmenter, clip[:1], vectors(1, 4, 32), [0], memory, order=order)
    assert [p.mask_logits.shape for p in found] == [(1, 8, 8)]


@torch.inference_mode()
def test_tables_made_while_inferring_serve_training(
    segmenter: Sam2Segmenter, clip: list[ImageFeatures]
) -> None:
    track(segmenter, clip[:3], vectors(3, 4, 32), [0], segmenter.new_memory("tdau"))
    with torch.inference_mode(False):
        prompts = vectors(3, 4, 32).requires_grad_()
        pixels = segmenter.preprocess([np.full((32, 32, 3), 90, dtype=np.uint8)])
        features = [segmenter.encode(pixels)] * 3
        found = track(segmenter, features, prompts, [0], segmenter.new_memory("tdau"))
        found[2].mask_logits.sum().backward()
    assert prompts.grad is not None


def test_bad_input(segmenter: Sam2Segmenter, clip: list[ImageFeatures]) -> None:
    prompts = vectors(4, 3, 32)

    def run(anchors: Sequence[int] = (0,), given: Tensor = prompts, **keys: Any) -> None:
        frames = keys.pop("frames", clip[:4])
        track(segmenter, frames, given, anchors, keys.pop("memory", segmenter.new_memory("tdau")), **keys)

    for message, keys in {
        "at least one frame": dict(frames=[]),
        "4 prompts for 16 frames": dict(frames=clip),
        r"slots must be frames from 0 to 3.*\[0, 2, 1, 3\]": dict(slots=[0, 2, 1, 3]),
        r"anchors must be distinct numbers from 0 to 3.*\[4\]": dict(anchors=[4]),
        r"at least one, got \[\]": dict(anchors=[]),
        "distinct numbers": dict(anchors=[1, 1]),
        r"\(T, N, C\) or \(Q, T, N, C\), got \(4, 32\)": dict(given=vectors(4, 32)),
        r"prompt must be \(N, 32\).*got \(1, 3, 31\)": dict(given=vectors(4, 3, 31)),
        "frame 0 must be an anchor, the first one is frame 2": dict(anchors=[2]),
        "order must be one of": dict(order="backwards"),
        "repeats must be one of": dict(repeats="ignore"),
        r"several anchors lie on one frame \(\{frame: slots\} = \{0: \[0, 1\]\}\)": dict(
            anchors=[0, 1], slots=[0, 0, 1, 2]
        ),
        "times must be 4 increasing numbers": dict(times=[0, 1, 1, 2]),
        "stores frames": dict(memory=segmenter.new_memory("none")),
        "has rows for 6: lower num_recent": dict(
            memory=segmenter.new_memory(dict(type="tdau", num_recent=7))
        ),
        r"order of time.*order='time'": dict(
            anchors=[0, 2, 3], order="anchors_first", memory=segmenter.new_memory(CAUSAL)
        ),
    }.items():
        with pytest.raises(UserError, match=message):
            run(**keys)  # type: ignore[arg-type]


def test_a_tracker_needs_a_first_anchor_and_an_empty_memory(
    segmenter: Sam2Segmenter, clip: list[ImageFeatures]
) -> None:
    tracker = Tracker(segmenter, segmenter.new_memory("tdau"))
    with pytest.raises(UserError, match="first frame must be an anchor"):
        tracker.step(clip[0])
    tracker.step(clip[0], vectors(4, 32))
    with pytest.raises(UserError, match="empty memory, this one holds 1"):
        Tracker(segmenter, tracker.memory)
    with pytest.raises(UserError, match="blank_absent=False has no effect"):
        Tracker(
            Sam2Segmenter.from_reduced(REDUCED, blank_absent=True),
            segmenter.new_memory(dict(type="tdau", blank_absent=False)),
        )
