"""Where prompts and masks are on one clip, frame by frame: for plots and for reading beside ``Stability``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refstream.errors import UserError
from refstream.evaluation.benchmark import Altered, EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.ledger import MemoryLedger
from refstream.evaluation.metrics.stability import box_centres, mask_boxes, mask_centres, temporal_stability
from refstream.evaluation.protocols.pieces import read_masks, true_masks
from refstream.evaluation.run import RunPredictions, run_model
from refstream.models.protocols import StreamPipeline

PROMPTS, MASKS = "prompts", "masks"


@dataclass(frozen=True)
class Trajectory:
    """One run's places on the K scored frames of a clip.

    Attributes:
        name: Of the run.
        masks: (K, 2) float64 x, y in pixels: mean of each mask's pixels; NaN for an empty mask.
        prompts: (K, 2) float64 x, y in pixels: centre of the box around the boxes that were the prompts, NaN
            where there were none. None for a pipeline that says no boxes.
        stability: Figures of the run on this clip, see ``Stability``.
    """

    name: str
    masks: np.ndarray
    prompts: np.ndarray | None
    stability: Mapping[str, float]


@dataclass(frozen=True)
class ClipTrajectories:
    """What several runs did with one expression of one clip.

    Attributes:
        video: Id.
        expression: Id.
        text: The words.
        size: (H, W) in pixels.
        frames: Names of the K frames.
        masks: (K, 2) float64 x, y in pixels: mean of the true mask's pixels; NaN where it is empty.
        boxes: (K, 2) float64: centre of the box around the true mask.
        runs: In the order in which they were asked for.
    """

    video: str
    expression: str
    text: str
    size: tuple[int, int]
    frames: tuple[str, ...]
    masks: np.ndarray
    boxes: np.ndarray
    runs: tuple[Trajectory, ...]

    def places(self, of: str = PROMPTS) -> dict[str, np.ndarray]:
        """What can be laid side by side: the truth, then each run.

        Args:
            of: "prompts": centres of boxes, of the truth's and of those that were said; "masks": mean pixels.

        Returns:
            "truth" and each run's name -> (K, 2) float64 x, y in pixels, NaN where unknown.

        Raises:
            UserError: For another word, or if a run says no boxes and prompts are asked for.
        """
        if of not in (PROMPTS, MASKS):
            raise UserError(f"trajectories are of {PROMPTS!r} or {MASKS!r}, got {of!r}")
        if of == MASKS:
            return {"truth": self.masks} | {run.name: run.masks for run in self.runs}
        found = {"truth": self.boxes}
        for run in self.runs:
            if run.prompts is None:
                raise UserError(
                    f"run {run.name!r} prompted with no boxes for {self.text!r}; choose of={MASKS!r} instead"
                )
            found[run.name] = run.prompts
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable; places that are unknown are None."""
        return {
            "video": self.video,
            "expression": self.expression,
            "text": self.text,
            "size": list(self.size),
            "frames": list(self.frames),
            "truth": {"masks": _points(self.masks), "boxes": _points(self.boxes)},
            "runs": [
                {
                    "run": run.name,
                    "masks": _points(run.masks),
                    "prompts": None if run.prompts is None else _points(run.prompts),
                    "stability": dict(run.stability),
                }
                for run in self.runs
            ],
        }


def find_expression(
    benchmark: MaskBenchmark, video_id: str, expression_id: str
) -> tuple[EvalVideo, EvalExpression]:
    """One expression of a benchmark, by its ids.

    Raises:
        UserError: If there is none; says which there are.
    """
    video = next((one for one in benchmark.videos if one.id == video_id), None)
    if video is None:
        some = ", ".join(one.id for one in benchmark.videos[:5])
        raise UserError(f"{benchmark.name} {benchmark.split} has no video {video_id!r}; it has {some}, ...")
    expression = next((one for one in video.expressions if one.id == expression_id), None)
    if expression is None:
        known = "; ".join(f"{one.id}: {one.text!r}" for one in video.expressions)
        raise UserError(f"video {video_id} has no expression {expression_id!r}; it has {known}")
    return video, expression


def clip_trajectories(
    benchmark: MaskBenchmark,
    video_id: str,
    expression_id: str,
    runs: Mapping[str, Callable[[], StreamPipeline]],
) -> ClipTrajectories:
    """Run pipelines on one expression of one clip, each alone in its session.

    Args:
        benchmark: With public truth.
        video_id: Of the clip.
        expression_id: Of the expression.
        runs: Name -> what makes the pipeline; called one after the other, so that only one model is held.

    Raises:
        UserError: If there is no such video or expression, its truth is not public, or it has no words.
    """
    video, expression = find_expression(benchmark, video_id, expression_id)
    truth = true_masks(benchmark, video, expression)
    alone = Altered(benchmark, [replace(video, expressions=(expression,))])
    return ClipTrajectories(
        video=video.id,
        expression=expression.id,
        text=expression.text,
        size=(truth.shape[1], truth.shape[2]),
        frames=video.scored_frames,
        masks=mask_centres(truth),
        boxes=box_centres(mask_boxes(truth)),
        runs=tuple(_run(name, make(), alone, truth) for name, make in runs.items()),
    )


def _run(name: str, pipeline: StreamPipeline, alone: MaskBenchmark, truth: np.ndarray) -> Trajectory:
    """The only expression of a benchmark through one pipeline, as evaluation does it."""
    ledger = MemoryLedger()
    run_model(pipeline, alone, ledger, MemoryLedger())
    (video,) = alone.videos
    height, width = truth.shape[1:]
    found = read_masks(RunPredictions(ledger), video, video.expressions[0], (height, width))
    assert found is not None  # it was run just now
    return Trajectory(
        name,
        mask_centres(found.masks),
        None if found.prompts is None else box_centres(found.prompts) * (width, height),
        temporal_stability(found.masks, truth, found.prompts).known(),
    )


def _points(places: np.ndarray) -> list[list[float] | None]:
    return [None if math.isnan(x) else [round(float(x), 3), round(float(y), 3)] for x, y in places]
