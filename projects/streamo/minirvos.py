"""MiniRVOS streams as dialogues: training samples made on the fly, or raw annotations with videos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from refstream.data.collate import ClipSample
from refstream.errors import UserError
from refstream.registry import DATASETS
from refstream.synthetic.scene import Split
from refstream.synthetic.streams import MiniStreams, SyntheticStream
from refstream.video import write_video

from .clock import StreamClock
from .compiler import compile_record
from .dataset import to_sample
from .records import write_raw

RAW_FILE, VIDEO_FOLDER = "raw.json", "videos"


@DATASETS.register_module()
class MiniStreamDialogues(Dataset[ClipSample]):
    """One sample is one dialogue over one stream; every index is a fresh stream, nothing is stored.

    Only the frames of the turns are rendered.

    Args:
        split: "train", "val" or "test".
        seed: Of the split.
        length: Number of dialogues of an epoch.
        duration_s: Of a stream, at least 10 s.
        fps: Turns per second.
        stream_fps: Frames of the streams per second, at least ``fps``: how finely things are timed.
        size: Side of the frames in pixels, or (H, W).
        families: Of questions, see ``refstream.synthetic.streams_records``, all of one weight where a stream
            can show several; None: all. A stream that can show none of them is passed over for the next.
        ask_late: Share of the standing questions that are asked in mid-stream.

    Raises:
        UserError: If an option is none of these.
    """

    def __init__(
        self,
        split: Split = "train",
        seed: int = 0,
        length: int = 100_000,
        duration_s: float = 20.0,
        fps: float = 1.0,
        stream_fps: float = 4.0,
        size: int | tuple[int, int] = 128,
        families: Sequence[str] | None = None,
        ask_late: float = 0.4,
    ) -> None:
        if length < 1 or not 0 < fps <= stream_fps:
            raise UserError(
                f"expected length >= 1 and 0 < fps <= stream_fps, got {length}, {fps} and {stream_fps}"
            )
        try:
            self.source = MiniStreams(
                split,
                seed,
                num_streams=length,
                duration_s=duration_s,
                fps=stream_fps,
                size=size,
                families=families,
                ask_late=ask_late,
            )
        except ValueError as error:
            raise UserError(f"MiniStreamDialogues: {error}") from error
        self.clock = StreamClock(fps)
        times = np.arange(self.source.num_frames) / stream_fps
        self.frame_indices = self.clock.frames(times.tolist())

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> ClipSample:
        return self.sample(index, np.random.default_rng([self.source.seed, index]))

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        """A dialogue over stream ``index`` in [0, len); which of its records is drawn from ``rng``.

        Raises:
            IndexError: If there is no such stream.
            UserError: If no stream at all can be asked what the families ask.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"dialogue {index} of {len(self)}")
        for offset in range(len(self)):
            number = (index + offset) % len(self)
            stream = self.source.stream(number, self.frame_indices)
            if stream.records:
                record = stream.records[int(rng.integers(len(stream.records)))]
                return to_sample(compile_record(record, self.clock, stream.duration_s), stream.frames)
        raise UserError(
            f"none of the {len(self)} streams can be asked about {', '.join(self.source.families)}; "
            "allow more families or a greater length"
        )


@dataclass(frozen=True)
class RawReport:
    """What ``write_raw_streams`` wrote.

    Attributes:
        annotations: The file of raw annotations.
        videos: The folder that their paths are relative to.
        num_videos: How many videos it holds.
        num_records: How many records.
    """

    annotations: Path
    videos: Path
    num_videos: int
    num_records: int


def write_raw_streams(root: str | Path, streams: Iterable[SyntheticStream]) -> RawReport:
    """Write streams as mp4 files with Streamo's raw annotations, as ``StreamoDataset`` reads them.

    Args:
        root: Gets ``raw.json`` and ``videos/<id>.mp4``.
        streams: All frames rendered.

    Raises:
        UserError: If the annotations are there already; a finished set is never overwritten.
        ValueError: If a stream has only some of its frames, or there is none.
    """
    root = Path(root)
    annotations, folder = root / RAW_FILE, root / VIDEO_FOLDER
    if annotations.exists():
        raise UserError(f"{annotations} exists: this set is written already; choose another folder")
    records, num_videos = [], 0
    for stream in streams:
        write_video(folder / f"{stream.id}.mp4", stream.all_frames(), stream.fps)
        records += stream.records
        num_videos += 1
    if not num_videos:
        raise ValueError(f"no stream to write to {root}")
    write_raw(annotations, records)
    return RawReport(annotations, folder, num_videos, len(records))
