"""VIRST as a pipeline: keys, presets, and the same commands as any method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from refstream_projects.virst.anchors import AnchorClip, AnchorPolicy
from refstream_projects.virst.pipeline import VIRST
from refstream_projects.virst.tests.models import (
    HEAD,
    NEAREST,
    READER,
    SAID,
    clip,
    numbers,
    small_virst,
    stream,
)

import refstream
from refstream.data import rle
from refstream.errors import UserError
from refstream.evaluation.ledger import MemoryLedger
from refstream.evaluation.readers.minirvos import MiniRVOSBenchmark
from refstream.evaluation.run import run_model
from refstream.registry import PIPELINES
from refstream.testing import small_model


@pytest.fixture(scope="module")
def model() -> Any:
    return small_virst(reader=READER)


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (dict(max_seg_frames=0), "max_seg_frames must be at least 1"),
        (dict(keep_recent=-1), "keep_recent must be at least 0"),
        (dict(order="backwards"), "order must be one of"),
        (dict(mllm_view="all"), "mllm_view one of"),
        (dict(anchors="uniforn"), "unknown anchor policy"),
        (dict(anchors=dict(type="uniform", k=3)), "does not accept"),
        (dict(online=True, anchors="uniform"), "must see the whole clip"),
        (dict(anchors="score"), "set online=True"),
        (dict(online=True, memory=NEAREST), "knows no anchor ahead"),
        (dict(online=True, order="anchors_first"), "knows no anchor ahead"),
        (dict(order="anchors_first"), 'memory anchors="nearest"'),
        (dict(max_seg_frames=101), "the head takes 100"),
        (dict(online=True, keep_recent=100), "keep_anchors or keep_recent"),
        (dict(memory=dict(type="tdau", num_recent=7)), "num_recent"),
        (dict(memory=dict(type="none")), "a memory that stores frames"),
        (dict(reader=dict(frame_tokens=3)), "frame_tokens"),
        (dict(gate=dict(type="EveryFrameGate")), r"takes no \['gate'\]"),
    ],
)
def test_keys_that_do_not_fit(model: Any, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.pipeline(**keys)


def test_anchors_that_leave_out_the_first_frame_need_another_order(model: Any) -> None:
    class Second(AnchorPolicy):
        def _choose(self, clip: AnchorClip) -> Sequence[int]:
            return [1]

    with pytest.raises(UserError, match="frame 0 must be an anchor"):
        stream(model, clip(3), SAID[:1], anchors=Second())
    (events,) = stream(model, clip(3), SAID[:1], anchors=Second(), order="anchors_first", memory=NEAREST)
    assert [e.reason for e in events] == ["tracked", "anchor", "tracked"]


@pytest.mark.parametrize("name", ["virst_paper", "virst_release"])
def test_presets(name: str) -> None:
    """They build and run; the small MLLM has 4 tokens for a frame."""
    keys = dict(VIRST.presets[name])
    keys["reader"] = dict(keys["reader"], frame_tokens=1)
    head = dict(HEAD, **VIRST.head_presets[name])
    torch.manual_seed(0)
    model = small_model(dict(type="VIRST", **keys), words="the red circle", head=head)
    (events,) = stream(model, clip(9), ["the red circle"])
    anchors = [e.frame_index for e in events if e.reason == "anchor"]
    assert anchors == {"virst_paper": [0, 4, 8], "virst_release": [0, 8]}[name]
    assert set(VIRST.presets["virst_paper"]) == set(VIRST.presets["virst_release"])


def test_head_for_sizes() -> None:
    paper = VIRST.head_for(image_size=1024, hidden_size=896, prompt_dim=256)
    assert paper == dict(type="SpatioTemporalFusion", map_size=64, grid=8, num_heads=8, initial_heads=8)
    tiny = VIRST.head_for(image_size=128, hidden_size=36, prompt_dim=32)
    assert (tiny["map_size"], tiny["grid"], tiny["num_heads"], tiny["initial_heads"]) == (8, 8, 4, 4)


# ---------------------------------------------------------------- the same commands as any method


def test_saved_and_loaded(tmp_path: Any) -> None:
    keys = dict(reader=READER, anchors=dict(type="uniform", alpha=2))
    model = small_virst(**keys).float()
    model.save(tmp_path)
    loaded = refstream.load(tmp_path)
    assert loaded.config.head["type"] == "SpatioTemporalFusion"
    assert loaded.config.pipeline == dict(type="VIRST", **keys)
    both = [stream(one, clip(5), SAID[:2]) for one in (model, loaded)]
    assert [[numbers(e) for e in row] for row in both[0]] == [[numbers(e) for e in row] for row in both[1]]
    (first,) = stream(loaded, clip(5), SAID[:1], online=True, anchors="every_k")
    assert [e.reason for e in first] == ["first"] + ["reuse"] * 4


@pytest.mark.parametrize("online", [False, True])
def test_runs_on_a_benchmark(online: bool) -> None:
    model = small_virst(reader=dict(READER, frame_label=""), online=online, max_seg_frames=6)
    benchmark = MiniRVOSBenchmark(seed=0, num_clips=2, num_frames=12)
    masks, costs = MemoryLedger(), MemoryLedger()
    run_model(PIPELINES.build(dict(model.config.pipeline, model=model)), benchmark, masks, costs)
    for video in benchmark.videos:
        for expression in video.expressions:
            record = masks.read(f"{video.id}/{expression.id}")
            assert record is not None
            decoded = rle.decode_clip(record["masks"], tuple(record["size"]))
            assert decoded.shape == (len(video.frames), *record["size"])
            called = range(0, len(video.frames), 10) if online else [0]
            assert record["called"][0] == 0
            assert set(called) <= set(record["called"])
