"""Conversations about a picture, or about none, in LLaVA's form (Liu et al., NeurIPS 2023)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from refstream.data.collate import ClipSample, Dialogue
from refstream.data.datasets.json_rows import JsonRows
from refstream.data.datasets.reading import LeftOut, relative_path
from refstream.errors import UserError
from refstream.images import read_image
from refstream.registry import DATASETS

MARKER = "<image>"
ROLES = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt"}


@DATASETS.register_module()
class LLaVADataset:
    """One sample is one conversation: ``ClipSample.dialogue`` and its picture, if it has one.

    The picture stands before the first question, so the marker ``<image>`` is taken out of that question.
    The file stays on disk: only the place of each record is kept in memory (16 bytes each), so every worker
    starts at once, whatever the size of the file.

    Not used, counted, logged once and listed by ``report``: records with several pictures, with a video, with
    the marker in a later turn, twice, or without a picture; with turns in a wrong order or of unknown
    speakers; and records whose picture is missing. An answer before the first question is dropped, and so is
    everything from the first question without an answer on; both are counted, and what remains is used.

    Args:
        annotations: JSON list of ``{"id", "image"?, "conversations": [{"from", "value"}, ...]}``.
        images: Folder of the pictures; needed only by records that have one.
        max_turns: Most (question, answer) pairs of a sample; of longer conversations the first are kept, as
            later questions may lean on earlier ones. None keeps all.

    Raises:
        UserError: If the file or folder is missing or of another form, or nothing can be used.
    """

    def __init__(
        self,
        annotations: str | Path = "data/llava_data/LLaVA-Instruct-150K/llava_v1_5_mix665k.json",
        images: str | Path = "data/llava_data/llava_images",
        max_turns: int | None = None,
    ) -> None:
        if max_turns is not None and max_turns < 1:
            raise UserError(f"max_turns must be at least 1 or None, got {max_turns}")
        self.annotations, self.images, self.max_turns = Path(annotations), Path(images), max_turns
        self._left_out = LeftOut()
        self._counts = {"with a picture": 0, "without a picture": 0, "turns": 0, "shortened": 0}
        rows = JsonRows(self.annotations)
        has_file = _folder_listing(self.images)
        kept = np.fromiter((self._admit(row, has_file) for row in rows.scan()), dtype=bool)
        self._rows = rows.only(kept)
        if not len(self._rows):
            raise UserError(f"{annotations}: no conversation can be used: {self._left_out or 'it is empty'}")
        self._left_out.close("conversations", self.annotations, len(self._rows))

    def _admit(self, row: Any, has_file: Callable[[str], bool]) -> bool:
        """Whether a record can be used; counts what it has and lacks."""
        name = str(row.get("id", "without id")) if isinstance(row, dict) else str(row)[:60]
        try:
            turns, picture = read_conversation(row, lambda reason: self._left_out.add(reason, name))
            if picture is not None and not has_file(picture):
                raise Unusable("picture file missing")
        except Unusable as problem:
            self._left_out.add(str(problem), name)
            return False
        used = len(turns) if self.max_turns is None else min(len(turns), self.max_turns)
        self._counts["without a picture" if picture is None else "with a picture"] += 1
        self._counts["turns"] += used
        self._counts["shortened"] += used < len(turns)
        return True

    def __len__(self) -> int:
        """Number of conversations."""
        return len(self._rows)

    def report(self) -> dict[str, Any]:
        """Counts of ``conversations``, of pictures, turns, and those shortened; ``left_out`` by reason."""
        return {"conversations": len(self), **self._counts, "left_out": self._left_out.report()}

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        """Conversation ``index`` in [0, len); nothing in it is random.

        Raises:
            UserError: If the picture cannot be read, or the file has changed.
        """
        row = self._rows[index]
        turns, picture = read_conversation(row, lambda reason: None)
        frames = np.zeros((0, 0, 0, 3), dtype=np.uint8)
        if picture is not None:
            frames = read_image(self.images / picture)[None]
        return ClipSample(
            frames=frames,
            expressions=[],
            masks=np.zeros((0, *frames.shape[:3]), dtype=bool),
            id=f"{self.annotations.stem} {row.get('id', index)}",
            dialogue=turns[: self.max_turns],
        )


class Unusable(ValueError):
    """Why a conversation cannot be used."""


def read_conversation(row: Any, note: Callable[[str], None]) -> tuple[Dialogue, str | None]:
    """A record of the file as turns, and the name of its picture if it has one.

    Args:
        row: The record.
        note: Called with a reason for every turn that is dropped.

    Raises:
        Unusable: If the record is of another form, or nothing of it remains.
    """
    if not isinstance(row, dict) or not isinstance(row.get("conversations"), list):
        raise Unusable("record without conversations")
    picture = _picture(row)
    turns = [_turn(turn) for turn in row["conversations"]]
    if turns and turns[0][0] == "gpt":
        note("answer before the first question (dropped)")
        turns = turns[1:]
    if any(role != ("human", "gpt")[i % 2] for i, (role, _) in enumerate(turns)):
        raise Unusable("turns out of order")
    questions, answers = [text for _, text in turns[::2]], [text for _, text in turns[1::2]]
    if questions:
        questions[0] = _without_marker(questions[0], picture is not None)
    if any(MARKER in text for text in questions[1:]):
        raise Unusable("image marker after the first question")
    pairs = list(_answered(questions, answers))
    if len(pairs) < len(questions):
        note("question without answer, or empty (dropped with all that follows)")
    if not pairs:
        raise Unusable("no question with an answer")
    return tuple(pairs), picture


def _picture(row: dict[str, Any]) -> str | None:
    if row.get("video") is not None:
        raise Unusable("about a video")
    picture = row.get("image")
    if isinstance(picture, list):
        if len(picture) > 1:
            raise Unusable("several pictures")
        picture = picture[0] if picture else None
    if picture is None or picture == "":
        return None
    try:
        return relative_path(picture, "image")
    except UserError:
        raise Unusable("picture outside the folder") from None


def _turn(turn: Any) -> tuple[str, str]:
    """(human or gpt, what was said)."""
    role = ROLES.get(str(turn.get("from"))) if isinstance(turn, dict) else None
    if role is None:
        raise Unusable("turn of an unknown speaker")
    text = turn.get("value")
    return role, text.strip() if isinstance(text, str) else ""


def _without_marker(question: str, has_picture: bool) -> str:
    number = question.count(MARKER)
    if number > 1:
        raise Unusable("several image markers")
    if number and not has_picture:
        raise Unusable("image marker without a picture")
    before, _, after = question.partition(MARKER)
    return "\n".join(part.strip() for part in (before, after) if part.strip())


def _answered(questions: list[str], answers: list[str]) -> Iterator[tuple[str, str]]:
    """Pairs up to the first that lacks a question or an answer."""
    for question, answer in zip(questions, answers, strict=False):
        if not (question and answer):
            return
        yield question, answer


def _folder_listing(root: Path) -> Callable[[str], bool]:
    """Whether ``root`` holds a file, reading each of its folders once; UserError if there is no ``root``."""
    listed: dict[Path, set[str]] = {}

    def has_file(name: str) -> bool:
        if not listed and not root.is_dir():
            raise UserError(f"no folder of pictures at {root}; see data/README.md for where it belongs")
        path = root / name
        if path.parent not in listed:
            found = path.parent.iterdir() if path.parent.is_dir() else ()
            listed[path.parent] = {entry.name for entry in found}
        return path.name in listed[path.parent]

    return has_file
