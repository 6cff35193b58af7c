"""What a mask benchmark is: videos, what is asked of them, and the truth.

A reader of an official format is a ``MaskBenchmark``. It names everything that the protocol wants scored,
also what is missing on disk: nothing is left out in silence, unlike in training. Pictures and masks are read
when asked for, so that memory does not grow with the number of videos. A picture is a video of one frame.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from refstream.errors import UserError


@dataclass(frozen=True)
class EvalExpression:
    """One thing asked of a video.

    Attributes:
        id: Unique within the video: ``exp_id``, ``sent_id``, or the benchmark's name of the sample.
        text: The words, as the file has them.
        group: What a protocol averages apart: type, family, annotator; "" if there is no such thing.
        details: What only some protocols need (object number, annotation ids, ...); JSON-serialisable.
    """

    id: str
    text: str
    group: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EvalVideo:
    """One video or picture.

    Attributes:
        id: Its name in the benchmark; may contain "/".
        frames: Names, without extension, of the T frames that a model is shown, in order.
        expressions: What is asked of it.
        size: (H, W) in pixels if known without opening a picture.
        fps: Frames per second of ``frames``.
        scored: Positions in ``frames`` of the K frames that are scored; None: all, K = T.
    """

    id: str
    frames: tuple[str, ...]
    expressions: tuple[EvalExpression, ...]
    size: tuple[int, int] | None = None
    fps: float = 24.0
    scored: tuple[int, ...] | None = None

    @property
    def scored_positions(self) -> Sequence[int]:
        """Positions in ``frames`` of the K frames that are scored."""
        return range(len(self.frames)) if self.scored is None else self.scored

    @property
    def scored_frames(self) -> tuple[str, ...]:
        """Names of the K frames that are scored."""
        return tuple(self.frames[i] for i in self.scored_positions)

    @property
    def cost(self) -> int:
        """What running it costs, roughly: encoding each frame, and a mask per frame and expression."""
        return len(self.frames) * (2 + len(self.expressions))


class MaskBenchmark(ABC):
    """Videos, expressions, truth.

    Attributes:
        name: As in the table of benchmarks.
        split: Official name of the split.
        videos: All of them, in the order of the file.
        settings: What was asked for, JSON-serialisable; goes into results.
        weights: Weight of each group for protocols that weigh groups; empty: they all weigh the same.
        seed: Of everything random in an evaluation (which other expression a floor takes).
    """

    name: str
    split: str
    videos: Sequence[EvalVideo]
    settings: Mapping[str, Any]
    weights: Mapping[str, float] = {}
    seed: int = 0

    @abstractmethod
    def images(self, video: EvalVideo) -> Iterator[np.ndarray]:
        """The T frames one by one, each (H, W, 3) uint8 RGB, all of one size.

        Raises:
            UserError: If one is missing or cannot be read; names the file.
        """

    @abstractmethod
    def truth(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray | None:
        """(K, H, W) bool for the scored frames; None where the truth is not public.

        Raises:
            UserError: If it is missing or does not fit the frames; names the file.
        """

    def void(self, video: EvalVideo) -> np.ndarray | None:
        """(K, H, W) bool: pixels that the protocol leaves out; None where it has no such pixels."""
        return None

    def objects(self, video: EvalVideo) -> Iterable[np.ndarray]:
        """All annotated objects, each (K, H, W) bool, for the floor "largest"; by default all targets."""
        truths = (self.truth(video, expression) for expression in video.expressions)
        return (truth for truth in truths if truth is not None)

    def files(self) -> Iterable[Path]:
        """Files whose contents decide what is asked and what is true."""
        return ()

    @cached_property
    def asked(self) -> str:
        """Tells apart what a model is asked: SHA-256 over settings, names of frames, and expressions."""
        digest = hashlib.sha256(repr((self.name, self.split, sorted(self.settings.items()))).encode())
        for video in self.videos:
            digest.update(repr((video.id, video.frames, video.scored)).encode())
            digest.update(repr([(e.id, e.text) for e in video.expressions]).encode())
        return digest.hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """Tells two data sets apart: SHA-256 over what is ``asked`` and the contents of ``files``."""
        digest = hashlib.sha256(self.asked.encode())
        for path in self.files():
            digest.update(repr((path.name, path.stat().st_size)).encode())
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @property
    def num_expressions(self) -> int:
        """Over all videos."""
        return sum(len(video.expressions) for video in self.videos)

    @property
    def hidden(self) -> bool:
        """Whether the truth is not public: no expression of the first video that has expressions has any.

        Raises:
            UserError: If there are no expressions, or the truth of these is missing or does not fit.
        """
        first = next((video for video in self.videos if video.expressions), None)
        if first is None:
            raise UserError(f"no video of {self.name} {self.split} has an expression")
        return all(self.truth(first, expression) is None for expression in first.expressions)

    def subset(self, video_ids: Iterable[str]) -> MaskBenchmark:
        """The same benchmark with some of its videos only, in the same order."""
        wanted = set(video_ids)
        return Altered(self, [video for video in self.videos if video.id in wanted])


class Altered(MaskBenchmark):
    """A benchmark with other videos in the list; pictures and truth are those of the original.

    Args:
        base: The original.
        videos: With ids of the original's.
    """

    def __init__(self, base: MaskBenchmark, videos: Sequence[EvalVideo]) -> None:
        self.base = base
        self.name, self.split, self.seed = base.name, base.split, base.seed
        self.settings, self.weights = base.settings, base.weights
        self.videos = list(videos)

    def images(self, video: EvalVideo) -> Iterator[np.ndarray]:
        return self.base.images(video)

    def truth(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray | None:
        return self.base.truth(video, expression)

    def void(self, video: EvalVideo) -> np.ndarray | None:
        return self.base.void(video)

    def objects(self, video: EvalVideo) -> Iterable[np.ndarray]:
        return self.base.objects(video)

    def files(self) -> Iterable[Path]:
        return self.base.files()
