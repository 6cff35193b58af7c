"""The public DAVIS-2017 evaluation code as an oracle, from the user's own clone; no line of it is in here."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refstream.errors import UserError

VARIABLE = "REFSTREAM_OFFICIAL_DAVIS"
SOURCE = "https://github.com/davisvideochallenge/davis2017-evaluation"


class OfficialMetrics(NamedTuple):
    """The two functions.

    Attributes:
        iou: ``db_eval_iou(annotation, segmentation, void_pixels)``.
        boundary: ``db_eval_boundary(annotation, segmentation, void_pixels, bound_th)``.
    """

    iou: Callable[..., np.ndarray]
    boundary: Callable[..., np.ndarray]

    def scores(
        self, gt: np.ndarray, result: np.ndarray, void: np.ndarray | None = None, bound_th: float = 0.008
    ) -> tuple[float, float]:
        """J and F of one frame, (H, W) bool masks."""
        with np.errstate(invalid="ignore"):  # it divides 0 by 0 before it sets the quotient to 1
            j = float(self.iou(gt, result, void))
        return j, float(self.boundary(gt, result, void, bound_th))


def load_official(tree: str | Path | None = None) -> OfficialMetrics:
    """Import ``davis2017/metrics.py`` of a clone, which runs that file.

    Args:
        tree: The clone. None: the one that the environment variable REFSTREAM_OFFICIAL_DAVIS names.

    Raises:
        UserError: If there is no such file, or it lacks the functions or what it imports.
    """
    folder = tree or os.environ.get(VARIABLE)
    if not folder:
        raise UserError(f"name a clone of {SOURCE}: give --official, or set {VARIABLE}")
    path = Path(folder) / "davis2017" / "metrics.py"
    spec = importlib.util.spec_from_file_location("official_davis_metrics", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UserError(f"{path} not found; expected a clone of {SOURCE}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return OfficialMetrics(module.db_eval_iou, module.db_eval_boundary)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{path} cannot be used as the DAVIS-2017 metrics: {error}") from error
