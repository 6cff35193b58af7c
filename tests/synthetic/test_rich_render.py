"""Textures, occluders, changing colours, a moving camera; and geometry."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from refstream.synthetic.minirvos import MiniRVOS
from refstream.synthetic.render import draw_background, render
from refstream.synthetic.scene import SHAPES, Background, Occluder, Repaint, Scene, SceneObject, Texture
from refstream.synthetic.shapes import UNIT_BOXES, contact_distance, inside

PLAIN = Background("plain", (50, 50, 50), (50, 50, 50), 0.1, False, 0)
RED, GREEN = (200, 10, 10), (10, 180, 10)


def _object(shape, centres, radius=0.2, rgb=RED, **options):
    return SceneObject(shape, "red", "large", radius, rgb, np.array(centres, dtype=np.float64), **options)


@pytest.mark.parametrize("kind", ["stripes", "dots", "checks", "shaded"])
@pytest.mark.parametrize("vertical", [False, True])
def test_textures_keep_the_hue_and_move_along(kind, vertical):
    texture = Texture(kind, 0.5, 0.3, vertical, 0.7)
    centres = [[0.3, 0.5], [0.6, 0.5]]
    frames, masks = render(Scene(1.0, 1.0, (_object("circle", centres, texture=texture),), PLAIN), (100, 100))
    plain = render(Scene(1.0, 1.0, (_object("circle", centres),), PLAIN), (100, 100))[1]
    np.testing.assert_array_equal(masks, plain)
    pixels = frames[0][masks[0, 0]].astype(float)
    light = pixels[:, 0] / RED[0]
    assert len(np.unique(pixels, axis=0)) == 2 if kind != "shaded" else len(np.unique(pixels[:, 0])) > 10
    assert 0.69 <= light.min() < 0.8
    assert 0.95 < light.max() <= 1.0
    np.testing.assert_allclose(pixels, light[:, None] * RED, atol=0.6)
    np.testing.assert_array_equal(frames[1], np.roll(frames[0], 30, axis=1))


def test_an_occluder_hides_what_is_behind_it():
    box = Occluder((0.4, 0.2, 0.6, 0.8), (130, 130, 130))
    obj = _object("square", [[0.3, 0.5], [0.5, 0.5]], 0.1)
    alone = render(Scene(1.0, 1.0, (obj,), PLAIN), (100, 100))[1][0]
    frames, masks = render(Scene(1.0, 1.0, (obj,), PLAIN, (box,)), (100, 100))
    hidden = np.zeros((100, 100), dtype=bool)
    hidden[20:80, 40:60] = True
    np.testing.assert_array_equal(masks[0], alone & ~hidden)
    assert masks[0, 0].any()
    assert not masks[0, 1].any()
    assert (np.ptp(frames[:, hidden].astype(int), axis=-1) == 0).all()
    np.testing.assert_array_equal((frames == RED).all(-1), masks[0])


def test_a_repaint_begins_with_its_frame():
    obj = _object("circle", [[0.5, 0.5]] * 4, repaints=(Repaint(2, "green", GREEN),))
    frames, masks = render(Scene(1.0, 1.0, (obj,), PLAIN), (64, 64))
    seen = [tuple(int(v) for v in frames[t, 32, 32]) for t in range(4)]
    assert seen == [RED, RED, GREEN, GREEN]
    assert obj.colours == ("red", "green")
    assert (masks[0] == masks[0, 0]).all()


def test_the_camera_moves_background_and_occluders():
    """Objects are placed in the picture; everything else is seen shifted against the camera."""
    background = Background("noise", (20, 20, 20), (100, 100, 100), 0.05, False, 3)
    camera = np.array([[0.0, 0.0], [0.1, -0.05]])
    box = Occluder((0.6, 0.4, 0.7, 0.6), (140, 140, 140))
    obj = _object("circle", [[0.2, 0.2], [0.2, 0.2]], 0.1)
    frames, masks = render(Scene(1.0, 1.0, (obj,), background, (box,), camera), (100, 100))
    np.testing.assert_array_equal(masks[0, 0], masks[0, 1])
    free = ~masks[0].any(0)
    both = free[:-5, 10:] & free[5:, :-10]
    first, second = frames[0, :-5, 10:], frames[1, 5:, :-10]
    np.testing.assert_array_equal(first[both], second[both])
    assert (frames[1, 50, 55] == 140).all()


@pytest.mark.parametrize("kind", ["checks", "dots", "waves"])
def test_backgrounds_stay_greyish(kind):
    picture = draw_background(Background(kind, (30, 32, 28), (90, 88, 92), 0.1, False, 7), (40, 60))
    assert picture.shape == (40, 60, 3)
    assert len(np.unique(picture)) > 1
    assert np.ptp(picture.astype(int), axis=-1).max() <= 8


def test_unknown_surfaces():
    for scene in (
        Scene(1.0, 1.0, (_object("circle", [[0.5, 0.5]], texture=Texture("fur")),), PLAIN),
        Scene(1.0, 1.0, (_object("circle", [[0.5, 0.5]]),), Background("sky", RED, RED, 0.1, False, 0)),
    ):
        with pytest.raises(ValueError, match=r"unknown (texture|background)"):
            render(scene, (32, 32))


def test_masks_and_frames_agree():
    """Where no mask is, nothing is coloured; where a mask is, there is its object's hue."""
    for clip in MiniRVOS("test", 31, 12):
        assert clip.object_masks.sum(0).max() == 1
        free = clip.frames[~clip.object_masks.any(0)].astype(int)
        assert np.ptp(free, axis=-1).max() <= 45  # greyish
        for obj, masks in zip(clip.scene.objects, clip.object_masks, strict=True):
            for t in np.flatnonzero(masks.any((1, 2))):
                rgb = np.array(obj.rgb_at(int(t)), dtype=float)
                pixels = clip.frames[t][masks[t]].astype(float)
                light = (pixels @ rgb) / (rgb @ rgb)
                np.testing.assert_allclose(pixels, light[:, None] * rgb, atol=1.0)
                assert light.min() > 0.66
                assert light.max() < 1.01


@pytest.mark.parametrize("shape", SHAPES)
def test_unit_boxes(shape):
    steps = np.linspace(-1.2, 1.2, 1201)
    rows, columns = np.nonzero(inside(shape, steps[None, :], steps[:, None]))
    box = (steps[columns.min()], steps[rows.min()], steps[columns.max()], steps[rows.max()])
    np.testing.assert_allclose(UNIT_BOXES[shape], box, atol=0.006)


@pytest.mark.parametrize(("a", "b", "axis"), [*product(SHAPES, SHAPES, [0]), ("star", "ring", 1)])
def test_contact_distance(a, b, axis):
    """At this distance the two drawings meet; a little farther apart they do not."""
    distance = contact_distance(a, 0.12, b, 0.2, axis)
    away = np.eye(2)[axis]
    for gap, meets in ((-0.015, True), (0.015, False)):
        centre = np.array([0.3, 0.3]) + away * (distance + gap)
        objects = _object(a, [[0.3, 0.3]], 0.12), _object(b, [centre], 0.2)
        alone = [render(Scene(1.0, 1.0, (obj,), PLAIN), (400, 400))[1][0, 0] for obj in objects]
        assert (alone[0] & alone[1]).any() == meets
