"""A hand-made source with all that is awkward: holes, entry, exit, no target, several, many sentences."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

HEIGHT, WIDTH, NUM_FRAMES = 20, 30, 3
RING, LEAVES, ENTERS, PARTS, NEVER = range(5)


def expression(text: str, family: str, *object_ids: int) -> SimpleNamespace:
    return SimpleNamespace(text=text, family=family, object_ids=object_ids)


EXPRESSIONS = (
    expression("the ring", "appearance", RING),
    expression("the things", "multi", LEAVES, PARTS),
    expression("the ghost", "absent"),
    expression("what was red at first", "history", RING),
    expression("what comes in", "motion", ENTERS),
    expression("what will leave", "future", LEAVES),
    *(expression(f"round {i}", "appearance", RING) for i in range(3)),
    expression("the dotted one", "occlusion", PARTS),
    expression("left of the ring", "relation", PARTS),
    expression("dots", "appearance", PARTS),
    expression("many dots", "appearance", PARTS),
    expression("some dots", "appearance", PARTS),
)


def object_masks() -> np.ndarray:
    """(5, T, H, W) bool, no pixel shared."""
    masks = np.zeros((5, NUM_FRAMES, HEIGHT, WIDTH), dtype=bool)
    masks[RING, :, 2:12, 2:14] = True
    masks[RING, :, 5:8, 5:9] = False  # a hole
    masks[LEAVES, 0, 14:18, 0:5] = True
    masks[ENTERS, 1:, 0:4, 26:30] = True
    masks[PARTS, :, 14:16, 20:22] = True
    masks[PARTS, :, 16:18, 22:24] = True  # touches the other part at a corner
    return masks


def clip(
    name: str, expressions: tuple[SimpleNamespace, ...] = EXPRESSIONS, frames: slice = slice(None)
) -> Any:
    masks = object_masks()[:, frames]
    rows = np.linspace(0, 200, HEIGHT)[None, :, None, None]
    columns = np.linspace(0, 55, WIDTH)[None, None, :, None]
    smooth = np.broadcast_to(rows + columns, (masks.shape[1], HEIGHT, WIDTH, 3))
    return SimpleNamespace(
        id=name, frames=smooth.astype(np.uint8), object_masks=masks, expressions=expressions
    )


@dataclass
class Source:
    """Stands for MiniRVOS: a clip with everything, one whose only sentence has no target, one with two."""

    split: str = "train"

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return self._all(slice(None), "clip")[index]

    def still(self, index: int) -> Any:
        return self._all(slice(1), "still")[index]

    def _all(self, frames: slice, kind: str) -> list[Any]:
        sentences = (EXPRESSIONS, EXPRESSIONS[2:3], EXPRESSIONS[:2])
        names = [f"{self.split}_{kind}_{letter}" for letter in "bac"]  # not in the order of their names
        return [clip(name, e, frames) for name, e in zip(names, sentences, strict=True)]


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def sources() -> type[Source]:
    return Source
