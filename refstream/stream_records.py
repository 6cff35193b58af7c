"""What is asked and answered over a video, and when: the truth of a streaming dialogue.

Times are seconds from the start of the video, whatever its frame rate. An answer that has a start speaks of
something that takes time, [start_s, end_s]; one without speaks of the moment ``end_s``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class StreamAsk:
    """One question or standing instruction.

    Attributes:
        text: The words.
        time_s: When it is asked.

    Raises:
        ValueError: If there are no words, or the time is negative or not finite.
    """

    text: str
    time_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("a question needs words, got an empty text")
        if not math.isfinite(self.time_s) or self.time_s < 0:
            raise ValueError(f"a question's time must be 0 s or later, got {self.time_s}")


@dataclass(frozen=True)
class StreamAnswer:
    """What is to be said once something has happened.

    Attributes:
        text: The words.
        end_s: When it is over, and can be told.
        start_s: When it began; None for something that happens at once.
        ask: Which of the record's questions it answers.

    Raises:
        ValueError: If there are no words, or the times are negative, not finite or in the wrong order.
    """

    text: str
    end_s: float
    start_s: float | None = None
    ask: int = 0

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("an answer needs words, got an empty text")
        start = self.end_s if self.start_s is None else self.start_s
        if not (math.isfinite(start) and math.isfinite(self.end_s) and 0 <= start <= self.end_s):
            raise ValueError(f"an answer needs 0 <= start_s <= end_s, got {self.start_s} and {self.end_s}")


@dataclass(frozen=True)
class StreamRecord:
    """All that is asked and answered in one dialogue over one video.

    Attributes:
        video: Path or name of the video.
        task: One of the names that its source uses, e.g. "narration"; not read by anything that compiles it.
        asks: In the order of time.
        answers: In the order of ``end_s``.
        duration_s: Of the video; None if it is not known yet.
        id: Unique in its file; empty if the source has none.
        source: Where it comes from.

    Raises:
        ValueError: If there is no question, an answer belongs to none, or things are out of order.
    """

    video: str
    task: str
    asks: tuple[StreamAsk, ...]
    answers: tuple[StreamAnswer, ...] = ()
    duration_s: float | None = None
    id: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        name = f"record {self.id or self.video!r}"
        if not self.asks:
            raise ValueError(f"{name} asks nothing")
        if list(self.asks) != sorted(self.asks, key=lambda ask: ask.time_s):
            raise ValueError(f"{name}: questions must be in the order of time")
        if list(self.answers) != sorted(self.answers, key=lambda answer: answer.end_s):
            raise ValueError(f"{name}: answers must be in the order of their ends")
        for answer in self.answers:
            if not 0 <= answer.ask < len(self.asks):
                raise ValueError(
                    f"{name}: an answer belongs to question {answer.ask}, there are {len(self.asks)}"
                )
