from __future__ import annotations

import math

import numpy as np
import pytest

from refstream.synthetic.minirvos import MiniRVOS
from refstream.synthetic.render import draw_background, render
from refstream.synthetic.scene import SHAPES, Background, Scene, SceneObject

PLAIN = Background("plain", (50, 50, 50), (50, 50, 50), 0.1, False, 0)


def _object(shape, centres, radius=0.2, rgb=(200, 10, 10)):
    return SceneObject(shape, "red", "large", radius, rgb, np.array(centres, dtype=np.float64))


@pytest.mark.parametrize(
    ("shape", "area"),  # in squared radii
    [
        ("circle", math.pi * 0.96),
        ("ring", math.pi * 0.7),
        ("square", 1.6**2),
        ("cross", 2 * 1.9 * 0.64 - 0.64**2),
        ("triangle", 3 * math.sqrt(3) * 0.55**2),
        ("star", 1.1225699414),  # 10 sin(36) sin(18) / sin(126) for a pentagram of circumradius 1
    ],
)
def test_areas(shape, area):
    scene = Scene(1.0, 1.0, (_object(shape, [[0.5, 0.5]], 0.4),), PLAIN)
    _, masks = render(scene, (600, 600))
    assert masks.sum() / (0.4 * 600) ** 2 == pytest.approx(area, rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_centred_and_inside_their_disk(shape):
    scene = Scene(1.0, 1.0, (_object(shape, [[0.4, 0.6]], 0.3),), PLAIN)
    _, masks = render(scene, (200, 200))
    rows, cols = np.nonzero(masks[0, 0])
    distance = np.hypot(rows + 0.5 - 120, cols + 0.5 - 80)
    assert distance.max() <= 0.3 * 200 * 1.16  # a square's corners reach a little farther
    assert abs(cols.mean() + 0.5 - 80) < 1
    assert (np.bincount(cols, minlength=160)[:160] == np.bincount(cols, minlength=160)[:160][::-1]).all()


def test_masks_are_the_visible_pixels():
    """Later objects hide earlier ones; frame and masks agree in every pixel."""
    below = _object("circle", [[0.5, 0.5]] * 2, rgb=(200, 10, 10))
    above = _object("square", [[0.6, 0.5], [0.9, 0.5]], rgb=(10, 200, 10))
    frames, masks = render(Scene(1.0, 1.0, (below, above), PLAIN), (100, 100))
    alone = [render(Scene(1.0, 1.0, (obj,), PLAIN), (100, 100))[1][0] for obj in (below, above)]
    np.testing.assert_array_equal(masks[1], alone[1])
    np.testing.assert_array_equal(masks[0], alone[0] & ~alone[1])
    assert masks[0, 0].sum() < masks[0, 1].sum()
    np.testing.assert_array_equal((frames == (200, 10, 10)).all(-1), masks[0])
    np.testing.assert_array_equal((frames == (10, 200, 10)).all(-1), masks[1])
    assert (frames[~masks.any(0)] == 50).all()


def test_objects_move_as_their_centres_say():
    obj = _object("circle", [[0.3, 0.5], [0.6, 0.5]])
    _, masks = render(Scene(1.0, 1.0, (obj,), PLAIN), (100, 100))
    np.testing.assert_array_equal(masks[0, 1], np.roll(masks[0, 0], 30, axis=1))


@pytest.mark.parametrize("split", ["train", "test"])
def test_benchmark_masks_match_frames(split):
    for clip in MiniRVOS(split, seed=3, num_clips=5, world="plain"):
        assert clip.object_masks.sum(0).max() == 1
        background = draw_background(clip.scene.background, clip.frames.shape[1:3])
        expected = np.broadcast_to(background, clip.frames.shape).copy()
        for obj, mask in zip(clip.scene.objects, clip.object_masks, strict=True):
            expected[mask] = obj.rgb
        np.testing.assert_array_equal(clip.frames, expected)


@pytest.mark.parametrize("kind", ["plain", "gradient", "noise", "stripes"])
@pytest.mark.parametrize("vertical", [False, True])
def test_backgrounds(kind, vertical):
    background = Background(kind, (30, 30, 30), (90, 90, 90), 0.1, vertical, 7)
    picture = draw_background(background, (40, 60))
    assert picture.shape == (40, 60, 3)
    assert picture.dtype == np.uint8
    assert picture.min() >= 30
    assert picture.max() <= 90
    assert (len(np.unique(picture)) == 1) == (kind == "plain")


def test_unknown_shape():
    with pytest.raises(ValueError, match="hexagon"):
        render(Scene(1.0, 1.0, (_object("hexagon", [[0.5, 0.5]]),), PLAIN), (64, 64))
