"""MiniRVOS streams in the format of OVO-Bench, so that its real reader and scorers are what is tested.

Source: JoeLeelyf/OVO-Bench (arXiv 2501.05510), ``data/ovo_bench_new.json``. Written are the tasks that make
sense for shapes; OCR (text), FPD (prediction) and OJR (objects, which would all be shapes) are not.

| Task | Asked here | Label law |
|---|---|---|
| EPM | a colour or a number at first | choice |
| ASI | what happened just before something else | choice |
| HLD | the colour of what was never there | choice: "Unable to answer" |
| ATR | a colour now | choice |
| ACR | what somebody does, while it goes on | choice |
| STU | who is furthest to one side now | choice |
| REC | how many times something happened | count = how many ends lie at t or before |
| SSR | whether something is going on | type = 1 exactly if start <= t <= end |
| CRR | who is the next to do something | type = 1 exactly if t >= clue_time, the end of it |
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refstream.errors import UserError
from refstream.files import write_json
from refstream.synthetic.streams import SyntheticStream
from refstream.synthetic.streams_ovo import OVO_TASKS, ovo_record
from refstream.synthetic.streams_truth import StreamTruth
from refstream.video_writer import write_video

ANNOTATIONS, VIDEO_FOLDER = "ovo_bench_new.json", "src_videos"


@dataclass(frozen=True)
class OVOReport:
    """What ``write_ovo`` wrote.

    Attributes:
        root: The folder.
        videos: How many videos.
        records: Task -> how many records; tasks without any are not listed.
        points: Task -> how many times something is asked.
    """

    root: Path
    videos: int
    records: Mapping[str, int] = field(default_factory=dict)
    points: Mapping[str, int] = field(default_factory=dict)


def write_ovo(
    root: str | Path,
    streams: Iterable[SyntheticStream],
    *,
    tasks: Sequence[str] | None = None,
    seed: int = 0,
) -> OVOReport:
    """Write streams as ``ovo_bench_new.json`` with ``src_videos/<id>.mp4`` beside it.

    Args:
        root: Folder of the benchmark; made if it is not there. The annotations are written last.
        streams: All frames rendered. Each gives at most one record per task, which depends on the stream's id
            and the seed alone.
        tasks: Only these of ``OVO_TASKS``; None: all.
        seed: Of what is asked.

    Raises:
        UserError: If the annotations are there already, a task is unknown, or nothing can be asked.
        ValueError: If a stream has only some of its frames.
    """
    root = Path(root)
    wanted = OVO_TASKS if tasks is None else tuple(tasks)
    unknown = sorted(set(wanted) - set(OVO_TASKS))
    if unknown or not wanted:
        raise UserError(
            f"streams can be written for {', '.join(OVO_TASKS)}; got {', '.join(unknown) or 'none'}"
        )
    if (root / ANNOTATIONS).exists():
        raise UserError(f"{root / ANNOTATIONS} exists: this set is written already; choose another folder")
    rows: list[dict[str, Any]] = []
    num_videos = 0
    records, points = Counter[str](), Counter[str]()
    for stream in streams:
        video = f"{stream.id}.mp4"
        write_video(root / VIDEO_FOLDER / video, stream.all_frames(), stream.fps)
        num_videos += 1
        truth = StreamTruth(stream.scene, stream.happenings, stream.fps)
        for task in wanted:
            key = [seed, zlib.crc32(stream.id.encode()), OVO_TASKS.index(task)]
            found = ovo_record(task, truth, np.random.default_rng(key))
            if found is not None:
                rows.append({"id": len(rows), "task": task, "video": video, **found})
                records[task] += 1
                points[task] += len(found.get("test_info", [None]))
    if not rows:
        raise UserError(
            f"none of {', '.join(wanted)} can be asked of {num_videos} streams; give more streams"
        )
    write_json(root / ANNOTATIONS, rows)
    return OVOReport(root, num_videos, dict(records), dict(points))
