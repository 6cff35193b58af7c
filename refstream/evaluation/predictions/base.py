"""What predictions are, whatever format they lie in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from refstream.evaluation.benchmark import EvalExpression, EvalVideo


@dataclass(frozen=True)
class Prediction:
    """The masks of one expression.

    Attributes:
        masks: (K, H, W) bool, one per scored frame; empty where one is missing.
        missing: Positions among the K frames for which there is no mask. A protocol says what they score.
        confidence: (K,) float64 in [0, 1], how sure the model is of each mask; None if it did not say.
        no_target: The model's own word on whether the target is absent; None if it gave none (then an empty
            mask stands for it).
        prompts: (K, 4) float64, x0, y0, x1, y1 in [0, 1] of width and height: the box around the boxes that
            the segmenter was prompted with anew; NaN where it was not, as where an earlier prompt serves
            again. None if there are none at all.
    """

    masks: np.ndarray
    missing: tuple[int, ...] = ()
    confidence: np.ndarray | None = None
    no_target: bool | None = None
    prompts: np.ndarray | None = None


class Predictions(Protocol):
    """Where predictions come from: a folder of PNG, an RLE file, a run of RefStream, ..."""

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        """The masks of an expression, None if there is nothing of it.

        Args:
            video: Says which K frames are scored, and how they are called.
            expression: The expression.
            size: (H, W) of the truth.

        Raises:
            UserError: If a mask is of another size or kind, or frames are misaligned; names the file.
        """
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when the predictions do."""
        ...


@runtime_checkable
class SeveralMasks(Protocol):
    """Predictions that may have several masks of a single scored frame, of which ``read`` gives the best."""

    def read_all(
        self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]
    ) -> list[Prediction]:
        """All of them, each with its confidence; see ``Predictions.read``."""
        ...
