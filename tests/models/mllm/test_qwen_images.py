"""Sizes of frames, against transformers' rule."""

from __future__ import annotations

import pytest
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from refstream.models.mllm.qwen_images import MAX_PIXELS, MIN_PIXELS, fitting_size


@pytest.mark.parametrize("limits", [(MIN_PIXELS, MAX_PIXELS), (3136, 28 * 28 * 1280), (200_000, 300_000)])
def test_sizes_are_those_of_transformers(limits: tuple[int, int]) -> None:
    low, high = limits
    for height in (1, 13, 28, 90, 224, 367, 480, 720, 1080, 2161):
        for width in (27, 160, 299, 420, 640, 1280, 1919):
            if max(height, width) / min(height, width) > 200:
                continue
            expected = smart_resize(height, width, 28, low, high)
            assert fitting_size(height, width, min_pixels=low, max_pixels=high) == expected


def test_frames_of_streams() -> None:
    assert fitting_size(720, 1280) == (224, 420)
    assert fitting_size(480, 640) == (252, 364)
    with pytest.raises(ValueError, match="cannot be resized"):
        fitting_size(1, 300)
    with pytest.raises(ValueError, match="cannot be resized"):
        fitting_size(0, 30)
