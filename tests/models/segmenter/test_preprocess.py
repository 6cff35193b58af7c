"""Square inputs: the official image transform, Pillow's, and refusal of what is no image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from refstream.models.segmenter.preprocess import IMAGENET_MEAN, IMAGENET_STD, square_pixels


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (37, 91, 3), dtype=np.uint8)


def test_bilinear_is_the_official_transform(image: np.ndarray) -> None:
    """sam2/utils/transforms.py: to float, Resize (antialiased), Normalize."""
    official = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize((48, 48), antialias=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    pixels = square_pixels([image, image[:, ::-1]], 48)
    assert pixels.shape == (2, 3, 48, 48)
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels[0], official(image), rtol=0, atol=1e-5)


def test_pil_bicubic_with_bf16_constants(image: np.ndarray) -> None:
    resized = torch.tensor(np.asarray(Image.fromarray(image).resize((48, 48)))).permute(2, 0, 1)
    mean = torch.tensor([0.484375, 0.455078125, 0.40625])[:, None, None]
    std = torch.tensor([0.228515625, 0.2236328125, 0.224609375])[:, None, None]
    pixels = square_pixels([image], 48, resize="pil_bicubic", bf16_constants=True)
    torch.testing.assert_close(pixels[0], (resized / 255.0 - mean) / std, rtol=0, atol=1e-6)


def test_right_size_is_not_touched() -> None:
    image = np.full((16, 16, 3), 255, dtype=np.uint8)
    for resize in ("bilinear", "pil_bicubic"):
        pixels = square_pixels([image], 16, resize=resize)
        assert pixels[0, 0].unique().item() == pytest.approx((1 - 0.485) / 0.229)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 4), dtype=np.uint8),
        np.zeros((4, 4, 3), dtype=np.float32),
        np.zeros((0, 4, 3), dtype=np.uint8),
    ],
)
def test_no_image(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        square_pixels([bad], 16)


def test_bad_arguments(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="at least one"):
        square_pixels([], 16)
    with pytest.raises(ValueError, match="pil_bicubic"):
        square_pixels([image], 16, resize="cubic")
