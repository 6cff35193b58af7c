"""Which of a prediction's masks belongs to which frame: the only place that matches them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalVideo

NUM_NAMES = 4
"""How many names an error gives."""


def align(video: EvalVideo, names: Sequence[str] | None, count: int, where: str) -> list[int | None]:
    """Where each of the K scored frames lies among ``count`` masks; None if it has no mask.

    Args:
        video: Says how its frames are called.
        names: Of the masks' frames, if the format says; else the masks must be as many as the scored frames,
            or as all frames, and are taken to be in their order.
        count: How many masks there are.
        where: Where they come from, for errors.

    Raises:
        UserError: If there are frames that the video does not have, or their number does not tell which they
            are.
    """
    scored = video.scored_positions
    if names is None:
        if count == len(scored):
            return list(range(count))
        if count == len(video.frames):
            return list(scored)
        raise UserError(
            f"{where}: expected {len(scored)} masks, one per frame of video {video.id} "
            f"({brief(video.scored_frames)}), got {count}; which frames are they of?"
        )
    if len(names) != count or len(set(names)) != len(names):
        raise UserError(
            f"{where}: expected a different frame name for each of the {count} masks, got {len(names)} names "
            f"({brief(names)})"
        )
    check_names(video, names, where)
    place = {name: position for position, name in enumerate(names)}
    return [place.get(name) for name in video.scored_frames]


def check_names(video: EvalVideo, names: Collection[str], where: str) -> None:
    """Raise UserError if the video does not have all of these frames."""
    strange = sorted(set(names).difference(video.frames))
    if strange:
        raise UserError(
            f"{where}: frames are misaligned: video {video.id} has no frame {brief(strange)}; expected "
            f"{len(video.scored_frames)} frames ({brief(video.scored_frames)}), found {len(names)} "
            f"({brief(sorted(names))}); is the numbering shifted?"
        )


def brief(names: Sequence[str]) -> str:
    """The first names and the last."""
    if len(names) <= NUM_NAMES:
        return ", ".join(names) or "none"
    return f"{', '.join(names[: NUM_NAMES - 1])}, ..., {names[-1]}"


def item_of(video: EvalVideo, expression_id: str) -> str:
    """How an expression is called in trees and reports."""
    return f"{video.id}/{expression_id}"
