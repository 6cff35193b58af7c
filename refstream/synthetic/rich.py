"""Seeded scenes of the rich world, each built around families of expressions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refstream.synthetic.scene import Scene, Split
from refstream.synthetic.scripts import SCRIPTS, STEADY_CAMERA, Script, anywhere, occlude, standing, touch
from refstream.synthetic.stage import NoRoom, Stage

MIN_OBJECTS, MAX_OBJECTS = 4, 6
_PAN_SHARE = 0.4  # of the clips in which the camera may move
_POLE_SHARE = 0.3  # of the scenes with a decorative pole
_BYSTANDER_ATTEMPTS = 3


def draw_scripts(rng: np.random.Generator, families: Sequence[str]) -> list[Script]:
    """A script for each of these families; families without scripts are passed over."""
    found = []
    for family in families:
        options = SCRIPTS.get(family)
        if options:
            found.append(options[int(rng.integers(len(options)))])
    return found


def sample_rich_scene(
    rng: np.random.Generator,
    split: Split,
    num_frames: int,
    scripts: Sequence[Script],
    width: float = 1.0,
    height: float = 1.0,
) -> Scene | None:
    """Draw a scene in which these scripts play.

    Args:
        rng: The only source of randomness.
        split: Decides which (shape, colour) pairs may occur.
        num_frames: T, at least 1.
        scripts: What happens; nothing particular if there is none.
        width: Of the picture, in shorter sides.
        height: Of the picture, in shorter sides.

    Returns:
        None if what was drawn does not fit into the picture.
    """
    scripts = sorted(scripts, key=lambda script: (script is not occlude, script is not touch))
    steady = num_frames < 2 or bool(STEADY_CAMERA.intersection(scripts))
    camera = None if steady or rng.random() >= _PAN_SHARE else _pan(rng, num_frames)
    stage = Stage(rng, split, num_frames, (width, height), camera, touch in scripts)
    try:
        for script in scripts:
            script(stage)
        if not {occlude, touch}.intersection(scripts) and rng.random() < _POLE_SHARE:
            _pole(stage)
        _fill(stage)
    except NoRoom:
        return None
    return stage.finish()


def _pan(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """(T, 2) shift of a camera that moves evenly, mostly sideways."""
    length = min(0.08 + 0.14 * rng.random(), 0.012 * num_frames)
    way = np.array([length if rng.random() < 0.5 else -length, length * (0.8 * rng.random() - 0.4)])
    return np.linspace(0.0, 1.0, num_frames)[:, None] * way


def _pole(stage: Stage) -> None:
    """A thin bar across the picture, which hides no object but cuts through what passes behind it."""
    axis, width = int(stage.rng.random() < 0.3), stage.uniform(0.025, 0.05)
    at = stage.uniform(0.15, 0.85) * float(stage.extent[axis])
    margin = 1.0  # beyond the borders, wherever the camera goes
    low, high = [-margin, -margin], [float(side) + margin for side in stage.extent]
    low[axis], high[axis] = at, at + width
    stage.occluder((low[0], low[1], high[0], high[1]))


def _fill(stage: Stage) -> None:
    """Add bystanders, as many as drawn or as find room."""
    wanted = int(stage.rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    for _ in range(_BYSTANDER_ATTEMPTS * MAX_OBJECTS):
        if len(stage.objects) >= wanted:
            return
        look = stage.bystander()
        paths = standing if stage.clearance or stage.rng.random() < 0.3 else anywhere
        try:
            stage.place([look], paths(stage, look.radius))
        except NoRoom:
            continue
    if len(stage.objects) < 3:
        raise NoRoom
