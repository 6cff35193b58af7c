"""Folders of frames and single pictures: order, rules of conversion, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refstream.errors import VideoError
from refstream.images import MAX_PIXELS, natural_key, read_image
from refstream.video import open_video


def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Grey level that tells the number, with a red top left corner."""
    image = np.full((height, width, 3), 20 + 8 * (number % 20), dtype=np.uint8)
    image[: height // 3, : width // 3] = (250, 10, 10)
    return image


def save(path: Path, image: np.ndarray, **keys: object) -> None:
    Image.fromarray(image).save(path, **keys)


def test_folder_in_natural_order_with_gaps(tmp_path):
    for number in (10, 2, 1, 30):
        save(tmp_path / f"{number}.png", picture(number))
    (tmp_path / "notes.txt").write_text("passed over")
    save(tmp_path / ".hidden.png", picture(0))
    source = open_video(tmp_path, fps=5)
    frames = list(source)
    assert source.num_frames == 4
    for frame, number in zip(frames, (1, 2, 10, 30), strict=True):
        assert np.array_equal(frame.image, picture(number))
    assert [f.time_s for f in frames] == pytest.approx([0, 0.2, 0.4, 0.6])
    assert [f.index for f in frames] == [0, 1, 2, 3]


def test_natural_key_mixes_names():
    names = ["b2.jpg", "b10.jpg", "3.jpg", "a.jpg", "b².jpg"]
    assert [p.name for p in sorted(map(Path, names), key=natural_key)][:2] == ["3.jpg", "a.jpg"]


def test_one_picture_is_one_frame(tmp_path):
    save(tmp_path / "still.png", picture(4))
    assert [f.index for f in open_video(tmp_path / "still.png")] == [0]


def test_empty_folder(tmp_path):
    with pytest.raises(VideoError, match="no picture files"):
        open_video(tmp_path)


def test_broken_picture_in_a_folder(tmp_path):
    for number in range(4):
        save(tmp_path / f"{number}.jpg", picture(number))
    broken = tmp_path / "2.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(VideoError, match=r"2\.jpg"):
        list(open_video(tmp_path))
    source = open_video(tmp_path, on_error="skip")
    frames = list(source)
    assert [f.index for f in frames] == [0, 1, 2]
    assert frames[2].time_s == pytest.approx(3 / source.fps)
    assert len(source.problems) == 1


def test_sizes_that_change_are_rescaled_with_a_record(tmp_path):
    save(tmp_path / "0.png", picture(0, 48, 64))
    save(tmp_path / "1.png", picture(0, 24, 32))
    source = open_video(tmp_path)
    assert {f.size for f in source} == {(48, 64)}
    assert "frame size changes to 32x24" in source.problems[0]


def test_conversions_by_rule(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    wide = np.array([[0, 128, 129, 65535], [257, 514, 385, 386]], dtype=np.uint16)
    colour = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    alpha = np.dstack([colour, np.full((6, 8), 7, dtype=np.uint8)])
    cases = {
        "grey.png": (Image.fromarray(grey), np.repeat(grey[:, :, None], 3, 2)),
        "wide.png": (
            Image.fromarray(wide),
            np.repeat(np.round(wide / 257).astype(np.uint8)[:, :, None], 3, 2),
        ),
        "alpha.png": (Image.fromarray(alpha), colour),
        "palette.png": (Image.fromarray(colour).quantize(64), None),
        "cmyk.tif": (Image.fromarray(colour).convert("CMYK"), colour),
        "bit.png": (Image.fromarray(grey > 100), np.repeat((grey > 100)[:, :, None] * np.uint8(255), 3, 2)),
    }
    for name, (image, expected) in cases.items():
        image.save(tmp_path / name)
        found = read_image(tmp_path / name)
        assert found.dtype == np.uint8
        assert np.array_equal(found, np.array(image.convert("RGB")) if expected is None else expected), name


@pytest.mark.parametrize(("orientation", "expected"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_exif_orientation_is_applied(tmp_path, orientation, expected):
    image = Image.fromarray(picture(2))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), np.rot90(picture(2), expected))


def test_giant_and_float_pictures_are_refused(tmp_path):
    side = int(MAX_PIXELS**0.5) + 1
    Image.new("1", (side, side)).save(tmp_path / "giant.png")
    with pytest.raises(VideoError, match="at most"):
        read_image(tmp_path / "giant.png")
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(VideoError, match="float-valued"):
        open_video(tmp_path)
