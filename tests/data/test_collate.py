"""Samples and batches: dialogues whose turns bring their own images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from refstream.data.collate import ClipSample, collate_clips
from refstream.errors import UserError


def talk(num_frames: int = 3, turns: int = 3, **keys: Any) -> ClipSample:
    dialogue = tuple((f"<{k}s-{k + 1}s>", "no") for k in range(turns))
    frames, masks = np.zeros((num_frames, 4, 6, 3), np.uint8), np.zeros((0, num_frames, 4, 6), bool)
    return ClipSample(frames, [], masks, "a stream", dialogue, **keys)


def test_images_of_turns_are_collated() -> None:
    batch = collate_clips([talk(turn_images=(1, 1, 1)), talk(1)])
    assert batch.turn_images == [(1, 1, 1), ()]
    assert [len(turns) for turns in batch.dialogues] == [3, 3]
    assert talk(turn_images=(3, 0, 0)).turn_images == (3, 0, 0)


@pytest.mark.parametrize("images", [(1, 1), (1, 1, 2), (1, 1, 1, 0), (4, -1, 0), (0, 0, 0)])
def test_images_that_do_not_add_up(images: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="share the 3 frames out among 3 turns"):
        talk(turn_images=images)


def test_who_shows_one_picture_says_so() -> None:
    collate_clips([talk(1)]).require_single_pictures(self := object())
    with pytest.raises(UserError, match="object learns dialogues about one picture, but 'a stream'"):
        collate_clips([talk(1), talk(turn_images=(1, 1, 1))]).require_single_pictures(self)
