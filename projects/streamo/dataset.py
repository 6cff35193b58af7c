"""Streaming dialogues over videos, from raw annotations or from Streamo-Instruct JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from refstream.data.collate import ClipSample
from refstream.data.datasets.json_rows import JsonRows
from refstream.data.datasets.reading import LeftOut, dataset_root, relative_path
from refstream.errors import UserError, VideoError
from refstream.registry import DATASETS
from refstream.video import OnError

from .clock import StreamClock
from .compiler import StreamDialogue, StreamTurn, chunk_starts, chunks, compile_record
from .records import parse_record, parse_task, record_name
from .stream_json import parse_instruct
from .turn_frames import Check, VideoLength, measure_video, read_turn_frames


@DATASETS.register_module()
class StreamoDataset:
    """One sample is a dialogue over a video, or a piece of a long one; a turn is one frame and its reply.

    Both forms of annotations are read, told apart by their keys, also within one file. Raw ones are compiled
    (``compile_record``); tags of finished dialogues are true times, so frames come from where the tag says,
    not from every n-th frame as in the release, whose tags run fast at fractional frame rates.

    Every video's header is read at the start. Left out, counted, logged and listed by ``report``: records of
    another form, of an unknown task, with things asked or answered after the end; videos that are missing or
    cannot be read. Turns after the end of a video are cut off and counted; an answer in the first of them is
    given in the last turn that is left, one in a later turn makes the record one that is left out.

    Args:
        annotations: JSON list of records, of Streamo's raw or finished form.
        videos: Folder in which the paths of the records lie; a video may be a folder of frames.
        fps: Turns per second of raw records and of dialogues without tags.
        max_turns: Longer dialogues are cut into pieces, see ``chunks``.
        overlap: Turns that a piece repeats of the one before.
        max_side: Frames are shrunk to this longer side; None keeps their size.
        tasks: Use only these; all if None.
        allow_unknown_tasks, default_question: As in ``read_raw``.
        drop_leaked: As in ``parse_instruct``.
        check: "header", or "decode" to decode every video at the start, which finds damaged ones.
        frames_fps: Rate of videos that are folders of frames.
        on_error: "raise" makes a damaged frame an error, "skip" leaves it out, with a warning.

    Raises:
        UserError: If the file or folder is missing, or no record can be used.
    """

    def __init__(
        self,
        annotations: str | Path,
        videos: str | Path,
        fps: float = 1.0,
        max_turns: int = 120,
        overlap: int = 0,
        max_side: int | None = 448,
        tasks: Sequence[str] | None = None,
        allow_unknown_tasks: bool = False,
        default_question: str | None = None,
        drop_leaked: bool = False,
        check: Check = "header",
        frames_fps: float | None = None,
        on_error: OnError = "raise",
    ) -> None:
        if max_turns < 1 or not 0 <= overlap < max_turns:
            raise UserError(
                f"expected max_turns >= 1 and 0 <= overlap < max_turns, got {max_turns}, {overlap}"
            )
        if check not in ("header", "decode"):
            raise UserError(f"check must be 'header' or 'decode', got {check!r}")
        self.annotations, self.clock = Path(annotations), StreamClock(fps)
        self.videos = dataset_root(videos, "the videos of the records")
        self.max_turns, self.overlap, self.max_side = max_turns, overlap, max_side
        self.tasks = None if tasks is None else [parse_task(t, "tasks", allow_unknown=True) for t in tasks]
        self.allow_unknown_tasks, self.default_question = allow_unknown_tasks, default_question
        self.drop_leaked, self.check = drop_leaked, check
        self.frames_fps, self.on_error = frames_fps, on_error
        self._left_out, self._counts = LeftOut(), Counter[str]()
        self._lengths: dict[str, VideoLength | VideoError] = {}
        rows = JsonRows(self.annotations)
        admitted = list(self._admit_all(rows))
        self._rows = rows.only(np.array([found is not None for found in admitted], dtype=bool))
        used = [found for found in admitted if found is not None]
        self._row_lengths = np.array([(length.last_s, length.duration_s) for length, _ in used]).reshape(
            -1, 2
        )
        pieces = [range(num_pieces) for _, num_pieces in used]
        self._pieces = np.array([(row, piece) for row, n in enumerate(pieces) for piece in n], dtype=np.int64)
        self._lengths.clear()
        self._left_out.close(type(self).__name__, self.annotations, len(self._rows))

    def _admit_all(self, rows: JsonRows) -> Iterator[tuple[VideoLength, int] | None]:
        """For each record its video's length and its number of pieces; None if it is not used."""
        for number, row in enumerate(rows.scan()):
            where = record_name(self.annotations, number, row)
            try:
                yield self._admit(row, where)
            except VideoError as error:
                self._left_out.add("video that cannot be read", str(error))
                yield None
            except UserError as error:
                self._left_out.add("record that cannot be used", str(error))
                yield None

    def _admit(self, row: Any, where: str) -> tuple[VideoLength, int] | None:
        video = row_video(row, where)
        if self.tasks is not None and row_task(row, where) not in self.tasks:
            self._left_out.add("task not chosen", where)
            return None
        if not (self.videos / video).exists():
            self._left_out.add("video missing", video)
            return None
        length = self._length(video)
        dialogue, num_cut = self._dialogue(row, where, length)
        pieces = chunk_starts(len(dialogue.turns), self.max_turns, self.overlap)
        self._counts["dialogues"] += 1
        self._counts["turns"] += len(dialogue.turns)
        self._counts["turns after the end of the video"] += num_cut
        self._counts.update(dialogue.state_counts())
        return length, len(pieces)

    def _length(self, video: str) -> VideoLength:
        """The length of a video; each is opened once while the records are looked through."""
        if video not in self._lengths:
            try:
                self._lengths[video] = measure_video(
                    self.videos / video,
                    check=self.check,
                    frames_fps=self.frames_fps,
                    on_error=self.on_error,
                )
            except VideoError as error:
                self._lengths[video] = error
        found = self._lengths[video]
        if isinstance(found, VideoError):
            raise found
        return found

    def _dialogue(self, row: Any, where: str, length: VideoLength) -> tuple[StreamDialogue, int]:
        """A record's dialogue, every turn of which has a frame, and how many turns were cut off."""
        if is_instruct(row):
            whole = parse_instruct(row, where, self.clock.fps, drop_leaked=self.drop_leaked)
            dialogue = end_with_video(whole, length.num_turns(whole.clock), where)
            return dialogue, len(whole.turns) - len(dialogue.turns)
        record = parse_record(
            row,
            where,
            allow_unknown_tasks=self.allow_unknown_tasks,
            default_question=self.default_question,
        )
        return compile_record(record, self.clock, length.for_turns(self.clock)), 0

    def __len__(self) -> int:
        """Number of dialogues and pieces of dialogues."""
        return len(self._pieces)

    def report(self) -> dict[str, Any]:
        """Counts of ``samples``, ``dialogues``, ``turns`` and of each state; ``left_out`` by reason."""
        return {"samples": len(self), **self._counts, "left_out": self._left_out.report()}

    def dialogue(self, index: int) -> StreamDialogue:
        """The turns of sample ``index`` in [0, len), without frames."""
        number, piece = map(int, self._pieces[index])
        row = self._rows[number]
        last_s, duration_s = map(float, self._row_lengths[number])
        where = record_name(self.annotations, number, row)
        whole, _ = self._dialogue(row, where, VideoLength(last_s, duration_s, 0))
        return chunks(whole, self.max_turns, self.overlap)[piece]

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        """Sample ``index`` in [0, len); nothing in it is random.

        Raises:
            UserError: If the video cannot be read, is shorter than its header says, or the file has changed.
        """
        dialogue = self.dialogue(index)
        frames = read_turn_frames(
            self.videos / dialogue.video,
            [turn.start_s for turn in dialogue.turns],
            max_side=self.max_side,
            frames_fps=self.frames_fps,
            on_error=self.on_error,
        )
        return to_sample(dialogue, frames)


def to_sample(dialogue: StreamDialogue, frames: np.ndarray) -> ClipSample:
    """A dialogue and its frames as a training sample.

    Args:
        dialogue: T turns.
        frames: (T, H, W, 3) uint8 RGB, the frame of each turn.

    Raises:
        ValueError: If there is not one frame per turn.
    """
    if len(frames) != len(dialogue.turns):
        raise ValueError(
            f"{dialogue.name}: {len(dialogue.turns)} turns need as many frames, got {len(frames)}"
        )
    return ClipSample(
        frames=frames,
        expressions=[],
        masks=np.zeros((0, *frames.shape[:3]), dtype=bool),
        id=dialogue.name,
        dialogue=tuple((turn.user_text(), turn.assistant_text()) for turn in dialogue.turns),
        turn_images=(1,) * len(dialogue.turns),
    )


def end_with_video(dialogue: StreamDialogue, num_turns: int, where: str) -> StreamDialogue:
    """A dialogue cut to the ``num_turns`` intervals that its video has, from its start.

    What is asked and answered in the first turn that is cut off moves to the last one that is left.

    Raises:
        UserError: If something is asked or answered later, or the dialogue begins after the video.
    """
    first = round(dialogue.turns[0].start_s * dialogue.clock.fps)
    kept, rest = dialogue.turns[: max(num_turns - first, 0)], dialogue.turns[max(num_turns - first, 0) :]
    late: Sequence[StreamTurn] = [turn for turn in rest[1:] if turn.asks or turn.answers]
    if not kept or late:
        turn = late[0] if late else dialogue.turns[0]
        raise UserError(
            f"{where}: the video has {num_turns} intervals, and turn {turn.label} comes after its end; is it "
            "the right video?"
        )
    if rest and (rest[0].asks or rest[0].answers):
        last, over = kept[-1], rest[0]
        last = replace(
            last,
            asks=last.asks + over.asks,
            state="response" if last.answers or over.answers else last.state,
            answers=last.answers + over.answers,
            answers_to=last.answers_to + over.answers_to,
        )
        kept = (*kept[:-1], last)
    return replace(dialogue, turns=kept)


def is_instruct(row: object) -> bool:
    """Whether a record is a finished dialogue and not a raw annotation."""
    return isinstance(row, dict) and "messages" in row


def row_video(row: Any, where: str) -> str:
    """A record's path of its video, inside the folder of videos. Raises UserError if it has none."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object, got {str(row)[:60]!r}")
    videos = row.get("videos")
    named = videos[0] if isinstance(videos, list) and len(videos) == 1 else videos
    return relative_path(named or row.get("video_path") or row.get("video_name"), f"{where}, video")


def row_task(row: dict[str, Any], where: str) -> str:
    """A record's task, under its own name if it is unknown."""
    return parse_task(row.get("task_type"), where, allow_unknown=True)
