"""MiniRVOS written in the official layouts, read back by the readers of the official files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refstream.data.datasets import MeViSDataset, RefYouTubeVOSDataset, ReVOSDataset
from refstream.data.layouts.mevis import write_mevis
from refstream.data.layouts.ref_youtube_vos import write_ref_youtube_vos
from refstream.data.layouts.revos import write_revos
from refstream.synthetic.minirvos import MiniRVOS, SyntheticClip

NUM_FRAMES = 6


@pytest.fixture(scope="module")
def clips() -> list[SyntheticClip]:
    source = MiniRVOS("train", seed=11, num_clips=4, num_frames=NUM_FRAMES, size=64, max_expressions=6)
    return [source[index] for index in range(4)]


def read_mevis(root: Path, **settings: Any) -> MeViSDataset:
    return MeViSDataset(root=root / "train", keep_absent=True, **settings)


def read_revos(root: Path, **settings: Any) -> ReVOSDataset:
    return ReVOSDataset(root=root, keep_absent=True, **settings)


def read_pictures(root: Path, **settings: Any) -> RefYouTubeVOSDataset:
    return RefYouTubeVOSDataset(root=root, mask_file=None, **settings)


@pytest.mark.parametrize(
    ("write", "read", "only_single"),
    [
        (write_mevis, read_mevis, False),
        (write_revos, read_revos, False),
        (write_ref_youtube_vos, RefYouTubeVOSDataset, True),
        (write_ref_youtube_vos, read_pictures, True),
    ],
    ids=["mevis", "revos", "ref_youtube_vos dictionary", "ref_youtube_vos pictures"],
)
def test_words_and_masks_come_back_exactly(
    tmp_path: Path, clips: list[SyntheticClip], write: Callable[..., Any], read: Any, only_single: bool
) -> None:
    write(clips, tmp_path, "train")
    data = read(tmp_path, num_frames=NUM_FRAMES, sampling="contiguous", expressions=99)
    assert data.report()["left_out"] == {}
    by_name = {source.video.name.split("/")[-1]: index for index, source in enumerate(data.videos)}
    num_compared = 0
    for clip in clips:
        sample = data.sample(by_name[clip.id], np.random.default_rng(0))
        expected = [
            (expression.text, clip.target_mask(expression).tobytes())
            for expression in clip.expressions
            if not only_single or len(expression.object_ids) == 1
        ]
        got = [(text, masks.tobytes()) for text, masks in zip(sample.expressions, sample.masks, strict=True)]
        assert sorted(got) == sorted(expected)
        num_compared += len(got)
        assert np.abs(sample.frames.astype(int) - clip.frames).mean() < 8  # JPEG
    assert num_compared >= 8
