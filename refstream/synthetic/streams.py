"""MiniRVOS streams: seeded videos in which things happen at known times, with what is asked and answered.

As all of MiniRVOS this is for DEVELOPMENT: nobody may quote it as a result on real data.

Every stream depends on (split, seed, index) and on the options alone, so any can be made at any time, in any
order, in any process, and only the frames that are wanted are rendered. What happens follows rules that let
somebody who sees one frame per second tell it, see ``streams_scene``; what is asked and answered is in
``streams_records``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from refstream.stream_records import StreamRecord
from refstream.synthetic.render import render
from refstream.synthetic.scene import SPLITS, Scene, Split
from refstream.synthetic.streams_happenings import Happening
from refstream.synthetic.streams_records import FAMILIES, stream_records
from refstream.synthetic.streams_scene import sample_stream_scene
from refstream.synthetic.streams_truth import StreamTruth

MIN_DURATION_S, MIN_FPS = 10.0, 2.0
_SCENES, _WORDS = 4, 5  # third number of the seeds; clips and stills of MiniRVOS have 0 to 3
_MAX_ATTEMPTS = 1000


@dataclass(frozen=True)
class SyntheticStream:
    """A rendered stream.

    Attributes:
        id: Unique among all splits and seeds.
        frames: (T, H, W, 3) uint8 RGB, those that were rendered.
        object_masks: (N, T, H, W) bool, visible pixels of the objects of the scene.
        frame_indices: T frames of the scene, those that were rendered.
        fps: Frames of the scene per second; frame i is shown at i / fps.
        scene: What was drawn.
        happenings: What happens in it, in the order of the ends.
        records: What is asked and answered, one record for each family that the stream can show.
    """

    id: str
    frames: np.ndarray
    object_masks: np.ndarray
    frame_indices: tuple[int, ...]
    fps: float
    scene: Scene
    happenings: tuple[Happening, ...]
    records: list[StreamRecord]

    @property
    def times(self) -> np.ndarray:
        """(T,) float64 seconds at which the rendered frames are shown."""
        return np.asarray(self.frame_indices, dtype=np.float64) / self.fps

    @property
    def duration_s(self) -> float:
        """Of the whole stream."""
        return self.scene.num_frames / self.fps

    def all_frames(self) -> np.ndarray:
        """The frames, (T, H, W, 3) uint8 RGB.

        Raises:
            ValueError: If only some of the scene's frames were rendered, or in another order.
        """
        if self.frame_indices != tuple(range(self.scene.num_frames)):
            raise ValueError(
                f"{self.id}: all {self.scene.num_frames} frames are needed, got {len(self.frame_indices)}; "
                "render the stream without choosing frames"
            )
        return self.frames


class MiniStreams:
    """A seeded split of MiniRVOS streams.

    Args:
        split: "train", "val" or "test".
        seed: Any non-negative number; another seed is another draw of the same split.
        num_streams: Length.
        duration_s: Of a stream, at least 10 s.
        fps: Frames per second, at least 2.
        size: Side in pixels, or (H, W).
        families: Subset of ``FAMILIES``: which records are made; None: all. The scenes do not depend on it.
        ask_late: Share of the standing questions that are asked in mid-stream instead of at its start.
    """

    def __init__(
        self,
        split: Split,
        seed: int = 0,
        num_streams: int = 100,
        duration_s: float = 20.0,
        fps: float = 4.0,
        size: int | tuple[int, int] = 128,
        families: Sequence[str] | None = None,
        ask_late: float = 0.4,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
        if seed < 0 or num_streams < 1:
            raise ValueError(f"seed must be >= 0 and num_streams >= 1, got {seed} and {num_streams}")
        if not (MIN_DURATION_S <= duration_s < math.inf and MIN_FPS <= fps < math.inf):
            raise ValueError(
                f"a stream needs at least {MIN_DURATION_S:g} s at {MIN_FPS:g} frames per second, "
                f"got {duration_s} s at {fps}"
            )
        if not 0 <= ask_late <= 1:
            raise ValueError(f"ask_late must lie in [0, 1], got {ask_late}")
        self.families = FAMILIES if families is None else tuple(families)
        if not self.families or set(self.families) - set(FAMILIES):
            raise ValueError(f"families must be a non-empty subset of {FAMILIES}, got {self.families}")
        self.size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        if min(self.size) < 32:
            raise ValueError(f"a stream needs frames of at least 32 x 32 pixels, got {self.size}")
        self.split: Split = split
        self.seed, self.num_streams, self.ask_late = seed, num_streams, ask_late
        self.duration_s, self.fps = float(duration_s), float(fps)
        self.num_frames = round(duration_s * fps)

    def __len__(self) -> int:
        return self.num_streams

    def __getitem__(self, index: int) -> SyntheticStream:
        return self.stream(index)

    def __iter__(self) -> Iterator[SyntheticStream]:
        return (self[index] for index in range(self.num_streams))

    def stream(self, index: int, frames: Sequence[int] | None = None) -> SyntheticStream:
        """Stream ``index``, of which only some frames are rendered; its truth is that of the whole stream.

        Args:
            index: In [0, len).
            frames: Indices of the frames to render, in this order; all by default; none if empty.

        Raises:
            IndexError: If there is no such stream or frame.
        """
        truth = self.truth(index)
        chosen = tuple(range(self.num_frames) if frames is None else (int(t) for t in frames))
        if not all(0 <= t < self.num_frames for t in chosen):
            raise IndexError(
                f"frames of a stream of {self.num_frames} must lie in [0, {self.num_frames}), got {chosen}"
            )
        if chosen:
            images, masks = render(truth.scene, self.size, chosen)
        else:
            images = np.zeros((0, *self.size, 3), dtype=np.uint8)
            masks = np.zeros((len(truth.scene.objects), 0, *self.size), dtype=bool)
        return SyntheticStream(
            id=self.name(index),
            frames=images,
            object_masks=masks,
            frame_indices=chosen,
            fps=self.fps,
            scene=truth.scene,
            happenings=truth.happenings,
            records=self._records(index, truth),
        )

    def name(self, index: int) -> str:
        """The id of a stream."""
        return f"minirvos_stream_{self.split}_{self.seed}_{index:06d}"

    def records(self, index: int) -> list[StreamRecord]:
        """What is asked and answered about stream ``index``; renders nothing."""
        return self._records(index, self.truth(index))

    def truth(self, index: int) -> StreamTruth:
        """What is in stream ``index``, and what happens; renders nothing.

        Raises:
            IndexError: If there is no such stream.
        """
        if not 0 <= index < self.num_streams:
            raise IndexError(f"stream {index} of a split of {self.num_streams}")
        rng = self._rng(_SCENES, index)
        height, width = self.size
        extent = width / min(self.size), height / min(self.size)
        for _ in range(_MAX_ATTEMPTS):
            drawn = sample_stream_scene(rng, self.split, self.num_frames, self.fps, *extent)
            if drawn is not None:
                return StreamTruth(*drawn, fps=self.fps)
        raise ValueError(f"no stream of {self.num_frames} frames was found; allow a longer one")

    def _records(self, index: int, truth: StreamTruth) -> list[StreamRecord]:
        name = self.name(index)
        found = []
        for number, family in enumerate(FAMILIES):
            if family in self.families:  # each family has its own numbers, whichever others are made
                rng = self._rng(_WORDS, index, number)
                found += stream_records(family, truth, rng, name, self.ask_late)
        return found

    def _rng(self, *key: int) -> np.random.Generator:
        sequence = np.random.SeedSequence([self.seed, SPLITS.index(self.split), *key])
        return np.random.Generator(np.random.PCG64(sequence))
