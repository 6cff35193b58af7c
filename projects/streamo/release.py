"""The public converter's turns, its defects included: to compare with it and to rebuild its training data.

Source: maifoundations/Streamo, scripts/convert_streaming_video.py, written anew after its behaviour. What it
does otherwise than ``compiler``, on purpose or not:

- A time t means frame t - 1 (0 means frame 0): a question at t stands in frame t - 1; an interval is standby
  from frame start - 1 to end - 1 and answered in frame end; a moment t is answered in frame t - 1.
- Times are cut to whole frames. Only text that is not a plain integer is multiplied by the rate; tags always
  count frames, as if there were one per second.
- Frames are overwritten in the order of the file: of two answers or questions in one frame the last one is
  left, and a standby wipes out an answer given before it was written.
- What lies outside the video, or has a time that cannot be read, is dropped in silence.
- If nothing is asked in frame 0, the first question is asked there too; without questions a default one.
- Answers do not wait for their questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .states import RELEASE_TOKENS

SILENCE, STANDBY, RESPONSE = RELEASE_TOKENS
DEFAULT_QUESTION = "Find all significant events in the video and describe them."
PICTURE = "<stream>"
"""Stands for the frame in the release's files."""


def compile_release(raw: Mapping[str, Any], frame_count: int, fps: float = 1.0) -> list[tuple[str, str]]:
    """(user, assistant) text of every frame, as the public converter writes them.

    Args:
        raw: A record of the raw annotations: ``question`` and ``response`` lists.
        frame_count: Number of sampled frames, see ``release_frame_count``.
        fps: Frames per second that were sampled.
    """
    questions, responses = raw.get("question") or [], raw.get("response") or []
    asked: dict[int, str] = {}
    for question in questions:
        frame = _frame_before(release_frame(question.get("time"), fps))
        if frame is not None and frame < frame_count and question.get("content"):
            asked[frame] = question["content"]
    said = [SILENCE] * max(frame_count, 0)
    for response in responses:
        start = _frame_before(release_frame(response.get("st_time"), fps))
        end = _frame_before(release_frame(response.get("end_time"), fps))
        told = _frame_before(release_frame(response.get("time"), fps))
        if start is not None and end is not None:
            for frame in range(start, min(end + 1, frame_count)):
                said[frame] = STANDBY
            told = end + 1
        if told is not None and told < frame_count and response.get("content"):
            said[told] = f"{RESPONSE} {response['content']}"
    leaked = questions[0].get("content") if questions else None
    asked.setdefault(0, leaked or DEFAULT_QUESTION)
    return [
        ("\n".join((*([asked[k]] if k in asked else []), f"<{k}s-{k + 1}s>", PICTURE)), text)
        for k, text in enumerate(said)
    ]


def release_frame(value: object, fps: float) -> int | None:
    """The converter's frame number of a time: None if it is empty or cannot be read.

    Numbers and integer text are frames already; other numbers in text, MM:SS and HH:MM:SS are seconds.
    """
    if isinstance(value, int | float):
        return int(value)
    text = str(value or "").strip()
    try:
        return int(text)
    except ValueError:
        pass
    parts = text.split(":")
    if len(parts) > 3:
        return None
    try:
        numbers = [float(part) for part in parts]
        return int(sum(n * 60**power for power, n in enumerate(reversed(numbers))) * fps)
    except ValueError:
        return None


def release_frame_count(num_frames: int, native_fps: float, fps: float = 1.0) -> int:
    """How many frames the converter samples: every n-th, n the native frames per sample, cut to an integer.

    At 29.97 frames per second n is 29, so that tags run 3 % fast.
    """
    return num_frames // max(1, int(native_fps / fps))


def _frame_before(frame: int | None) -> int | None:
    """Time t -> frame t - 1, not below 0."""
    return None if frame is None else max(frame - 1, 0)
