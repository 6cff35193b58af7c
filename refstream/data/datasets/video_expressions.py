"""Folders of frames with expressions and masks: the base of the MeViS, ReVOS and Ref-YouTube-VOS readers.

All have ``{"videos": {video: {"frames": [name without extension], "expressions": {id: {"exp", ...}}}}}`` and
frames at ``<image folder>/<video>/<frame>.jpg``; they differ in how an expression names its masks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refstream.data.collate import ClipSample
from refstream.data.datasets.clip_masks import ClipMasks, Video
from refstream.data.datasets.reading import (
    LeftOut,
    dataset_file,
    dataset_root,
    expect,
    read_clip,
    read_object,
    relative_path,
)
from refstream.data.sampling import check_sampling, choose_frames
from refstream.errors import UserError


@dataclass(frozen=True)
class Expression:
    """Words of a video and the annotations whose union they mean.

    Attributes:
        id: Its key in the file.
        text: As the file has it, without white space around.
        annotations: Ids for ``ClipMasks``; none for a target that is not there.
    """

    id: str
    text: str
    annotations: tuple[str, ...]


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video that can be trained on.

    Attributes:
        video: Its name and frames.
        usable: Positions of the frames that have a picture and annotations.
        expressions: At least one.
    """

    video: Video
    usable: tuple[int, ...]
    expressions: tuple[Expression, ...]


class VideoExpressions:
    """Clips of a video dataset; one index per video that has a usable expression.

    Opening reads the expressions, the masks' index and the folders' listings, but no picture. What cannot be
    used is left out, counted in ``report()`` and logged once.

    Args:
        root: Folder of the dataset; the other names are relative to it.
        expression_file: JSON, as above.
        image_folder: Holds a folder per video; "" for the root itself.
        masks: Where the masks come from.
        num_frames: T, frames of a clip.
        sampling: Rule of ``choose_frames``.
        expressions: Most expressions of a clip, drawn without replacement.
        keep_absent: Also train on expressions that the file says have no target (an empty list of
            annotations): all their masks are empty. Otherwise they are left out.

    Raises:
        UserError: If a file is missing or of another form, or nothing can be used.
    """

    EXTENSION = ".jpg"

    def __init__(
        self,
        root: str | Path,
        expression_file: str,
        image_folder: str,
        masks: ClipMasks,
        *,
        num_frames: int,
        sampling: str,
        expressions: int,
        keep_absent: bool = False,
    ) -> None:
        check_sampling(sampling, num_frames)
        if expressions < 1:
            raise ValueError(f"a clip needs at least one expression, got expressions = {expressions}")
        self.root = Path(root)
        self.images = dataset_root(self.root / image_folder, "a folder of frames per video")
        self.masks = masks
        self.num_frames, self.sampling, self.expressions = num_frames, sampling, expressions
        self.keep_absent = keep_absent
        self.left_out = LeftOut()
        self.path = dataset_file(self.root, expression_file)
        videos = expect(read_object(self.path).get("videos"), dict, f"{self.path}, key 'videos'")
        self.prepare(videos)
        self.videos = list(self._usable(videos))
        self.left_out.close(type(self).__name__, self.root, len(self.videos))

    def prepare(self, videos: Mapping[str, Any]) -> None:
        """Called with the videos of the file before any is looked at."""
        return None

    def annotations(self, video: str, expression: str, record: Mapping[str, Any]) -> Sequence[object] | None:
        """Ids of the annotations that an expression means; None if it names none (it has no truth)."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.videos)

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        """A clip of video ``index`` with some of its expressions.

        Raises:
            UserError: If a picture cannot be read, or a mask does not fit it.
        """
        source = self.videos[index]
        video = source.video
        number = min(self.expressions, len(source.expressions))
        chosen = [source.expressions[i] for i in rng.choice(len(source.expressions), number, replace=False)]
        drawn = choose_frames(len(source.usable), self.num_frames, self.sampling, rng)
        positions = [source.usable[i] for i in drawn]
        folder = self.images / video.name
        frames = read_clip([folder / f"{video.frames[position]}{self.EXTENSION}" for position in positions])
        size = (frames.shape[1], frames.shape[2])
        return ClipSample(
            frames=frames,
            expressions=[expression.text for expression in chosen],
            masks=np.stack([self.masks.read(video, e.annotations, positions, size) for e in chosen]),
            id=f"{type(self).__name__} {video.name}: expressions {','.join(e.id for e in chosen)}, "
            f"frames {','.join(video.frames[position] for position in positions)}",
        )

    def report(self) -> dict[str, Any]:
        """What is used (``videos``, ``expressions``, ``frames``) and what is ``left_out``, by reason."""
        return {
            "dataset": type(self).__name__,
            "root": str(self.root),
            "videos": len(self.videos),
            "expressions": sum(len(source.expressions) for source in self.videos),
            "frames": sum(len(source.usable) for source in self.videos),
            "left_out": self.left_out.report(),
        }

    def _usable(self, videos: Mapping[str, Any]) -> Iterator[AnnotatedVideo]:
        for name, record in videos.items():
            video = self._video(name, record)
            folder = self.images / video.name
            if not folder.is_dir():
                self.left_out.add("video without its folder", name)
                continue
            usable = self._usable_frames(video, folder)
            if not usable:
                self.left_out.add("video without usable frames", name)
                continue
            expressions = tuple(self._expressions(video, record))
            if expressions:
                yield AnnotatedVideo(video, usable, expressions)
            else:
                self.left_out.add("video without usable expressions", name)

    def _video(self, name: str, record: object) -> Video:
        where = f"{self.path}, video {name!r}"
        values = expect(record, dict, where)
        frames = expect(values.get("frames"), list, f"{where}, key 'frames'")
        names = sorted(relative_path(frame, f"{where}, a frame") for frame in frames)
        if len(set(names)) != len(names):
            raise UserError(f"{where}: a frame is listed twice, so its masks cannot be matched to frames")
        height, width = values.get("height"), values.get("width")
        size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        return Video(relative_path(name, where), tuple(names), size)

    def _usable_frames(self, video: Video, folder: Path) -> tuple[int, ...]:
        """Positions of frames with a picture and annotations; the others are counted."""
        there = set(os.listdir(folder))
        annotated = set(self.masks.frames(video))
        usable = []
        for position, frame in enumerate(video.frames):
            if f"{frame}{self.EXTENSION}" not in there:
                self.left_out.add("frame without its picture", f"{video.name}/{frame}")
            elif position not in annotated:
                self.left_out.add("frame without annotations", f"{video.name}/{frame}")
            else:
                usable.append(position)
        return tuple(usable)

    def _expressions(self, video: Video, record: Mapping[str, Any]) -> Iterator[Expression]:
        where = f"{self.path}, video {video.name!r}"
        for key, values in expect(record.get("expressions"), dict, f"{where}, key 'expressions'").items():
            values = expect(values, dict, f"{where}, expression {key}")
            text = expect(values.get("exp"), str, f"{where}, expression {key}, key 'exp'").strip()
            ids = self.annotations(video.name, key, values)
            expression = Expression(key, text, tuple(str(i) for i in ids or ()))
            reason = "expression without annotation ids" if ids is None else self._problem(video, expression)
            if reason:
                self.left_out.add(reason, f"{video.name}/{key}")
            else:
                yield expression

    def _problem(self, video: Video, expression: Expression) -> str | None:
        """Why an expression cannot be trained on, None if it can."""
        if not expression.text:
            return "expression without words"
        if not expression.annotations and not self.keep_absent:
            return "expression without a target"
        return self.masks.problem(video, expression.annotations)


def listed_annotations(record: Mapping[str, Any], where: str) -> list[object] | None:
    """The ``anno_id`` list of an expression, None if it has none. Raises UserError for another form."""
    return expect(record["anno_id"], list, f"{where}, key 'anno_id'") if "anno_id" in record else None
