"""Tracks of prompted objects: equal to driving the segmenter by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from refstream.errors import UserError
from refstream.streaming.tracking import ObjectTrack, joined, memory_policy, union
from refstream.structures import SegPrompt
from refstream.testing import moving_square_video, small_model


@pytest.fixture(scope="module")
def segmenter() -> Any:
    torch.manual_seed(0)
    return small_model().segmenter


@pytest.fixture(scope="module")
def images(segmenter) -> list[Any]:
    frames, _ = moving_square_video(5)
    with torch.no_grad():
        return [segmenter.encode(segmenter.preprocess([frame.image])) for frame in frames]


def box(*corners: float) -> SegPrompt:
    return SegPrompt(box_xyxy=torch.tensor([corners]))


FIRST, SECOND = box(4, 4, 20, 20), box(10, 30, 30, 60)


@torch.no_grad()
def test_without_a_memory_every_frame_stands_alone(segmenter, images) -> None:
    track = ObjectTrack(segmenter)
    assert track.follow(images[0], 0) is None
    track.take(images[0], FIRST, 0)
    followed = track.follow(images[1], 1)
    assert followed is not None
    assert torch.equal(followed.mask_logits, segmenter.decode(images[1], FIRST).mask_logits)
    assert track.remembered is None
    track.clear()
    assert track.follow(images[2], 2) is None


@torch.no_grad()
@pytest.mark.parametrize("conditioning", ["first", "always"])
def test_with_a_memory_it_is_the_segmenter_driven_by_hand(segmenter, images, conditioning) -> None:
    track = ObjectTrack(segmenter, dict(type="sam2"), conditioning=conditioning)
    memory = segmenter.new_memory(dict(type="sam2"))
    prompts = [FIRST, None, SECOND, None, None]
    for t, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        if prompt is None:
            found = track.follow(image, t)
            assert found is not None
            track.keep(image, found, t)
        else:
            found = track.take(image, prompt, t)
        anew = prompt is not None and (t == 0 or conditioning == "always")
        keys: dict[str, Any] = dict(frame_index=t, is_conditioning=anew)
        expected = segmenter.decode(image, prompt, memory=memory, **keys)
        segmenter.remember(image, expected, memory, **keys)
        assert torch.equal(found.mask_logits, expected.mask_logits)


@torch.no_grad()
def test_following_keeps_nothing_by_itself(segmenter, images) -> None:
    track = ObjectTrack(segmenter, dict(type="sam2"))
    track.take(images[0], FIRST, 0)
    one, two = track.follow(images[1], 1), track.follow(images[1], 1)
    assert one is not None
    assert two is not None
    assert torch.equal(one.mask_logits, two.mask_logits)
    assert track.remembered.last_index == 0


@torch.no_grad()
def test_another_number_of_objects_begins_a_new_track(segmenter, images) -> None:
    track = ObjectTrack(segmenter, dict(type="sam2"))
    track.take(images[0], FIRST, 0)
    both = joined([FIRST, SECOND])
    found = track.take(images[1], both, 1)
    fresh = segmenter.decode(images[1], both)
    assert torch.equal(found.mask_logits > 0, fresh.mask_logits > 0)
    assert [entry.frame_index for entry in track.remembered.entries()] == [1]


@torch.no_grad()
def test_padding_points_change_nothing(segmenter, images) -> None:
    """What stands for no point is a token of its own, and rows are not mixed."""
    points = SegPrompt(
        box_xyxy=FIRST.box_xyxy, points_xy=torch.tensor([[[8.0, 8.0]]]), point_labels=torch.ones(1, 1).long()
    )
    both = joined([points, SECOND])
    assert both.points_xy is not None
    assert both.point_labels is not None
    assert both.point_labels.tolist() == [[1], [-1]]
    alone = segmenter.decode(images[0], points).mask_logits
    together = segmenter.decode(images[0], both).mask_logits
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-4)


def test_prompts_that_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="at least one"):
        joined([])
    with pytest.raises(ValueError, match="some of the prompts have embedding"):
        joined([FIRST, SegPrompt(embedding=torch.zeros(1, 1, 8))])


@torch.no_grad()
def test_the_union_of_objects(segmenter, images) -> None:
    found = segmenter.decode(images[0], joined([FIRST, SECOND]))
    logits, iou, score = union(found)
    assert torch.equal(logits[0] > 0, (found.mask_logits > 0).any(0))
    assert iou == pytest.approx(float(found.pred_iou.mean()))
    assert score == pytest.approx(float(found.object_score.max()))


def test_words_for_memories() -> None:
    assert memory_policy("off") is None
    assert memory_policy("on") == dict(type="sam2")
    assert memory_policy(dict(type="none")) == dict(type="none")
    with pytest.raises(UserError, match="memory must be one of"):
        memory_policy("sometimes")
    with pytest.raises(UserError, match="conditioning must be one of"):
        ObjectTrack(None, conditioning="never")
