"""Folders of frames with an expressions file: the base of the readers of the video benchmarks.

All have ``{"videos": {video: {"frames": [name without extension], "expressions": {id: {"exp", ...}}}}}`` and
frames at ``<image folder>/<video>/<frame>.jpg``; they differ in how an expression names its masks. Opening
reads JSON and the masks' index, but no picture and no folder of frames: scoring needs masks alone. What is
missing on disk stays in the list, since a protocol scores it; ``refstream data check`` finds it beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refstream.data.datasets.clip_masks import ClipMasks, CodedMasks, PaletteMasks, Video, read_labels
from refstream.data.datasets.reading import dataset_file, expect, read_object, relative_path
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.frames import brief
from refstream.images import natural_key, read_image

EXTENSION = ".jpg"
_ORIENTATION, _SIDEWAYS = 0x0112, range(5, 9)  # EXIF: values that swap height and width


class VideoFiles(MaskBenchmark):
    """A benchmark of videos that lie as folders of frames.

    Frames are shown in the order of their names; masks that come as a list follow the order in which the file
    lists the frames, as the official scorers have it.

    Args:
        root: Folder of the dataset.
        split: Official name of the split.
        expressions: The expressions file.
        images: Folder with a folder of frames per video; only ``images`` needs it.
        masks: Where the masks come from; None where they are not public.
        settings: As in ``MaskBenchmark``.
        fps: Frames per second of the frames.

    Attributes:
        listed: Video id -> the video as the file lists it, frames in the order of the file.
        annotations: (video id, expression id) -> ids for ``masks``; None for an expression that names none.

    Raises:
        UserError: If a file is missing or of another form, or lists nothing.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        expressions: Path,
        images: Path,
        masks: ClipMasks | None,
        settings: Mapping[str, Any],
        fps: float = 24.0,
    ) -> None:
        self.root, self.split, self.path, self.image_folder = root, split, expressions, images
        self.masks, self.settings, self.fps = masks, dict(settings), fps
        self.listed: dict[str, Video] = {}
        self.annotations: dict[tuple[str, str], tuple[str, ...] | None] = {}
        records = expect(read_object(self.path).get("videos"), dict, f"{self.path}, key 'videos'")
        records = self.choose(records)
        if not records:
            raise UserError(f"{self.path} lists no videos")
        self.prepare(records)
        self.videos = [self._video(name, record) for name, record in records.items()]
        if all(ids is None for ids in self.annotations.values()):
            self.masks = None  # words only, whatever lies beside them
            self.videos = [replace(video, scored=None) for video in self.videos]

    # ------------------------------------------------------------ for subclasses

    def choose(self, records: dict[str, Any]) -> dict[str, Any]:
        """The videos of the file that belong to the split."""
        return records

    def prepare(self, records: Mapping[str, Any]) -> None:
        """Called with the chosen videos before any is read."""
        return None

    def expression(self, key: str, text: str, record: Mapping[str, Any], where: str) -> EvalExpression:
        """An expression from its entry in the file."""
        return EvalExpression(key, text)

    def masks_of(
        self, video: str, key: str, record: Mapping[str, Any], where: str
    ) -> Sequence[object] | None:
        """Ids of the annotations whose union an expression means; None if it names none (it has no truth)."""
        raise NotImplementedError

    def scored(self, video: Video, expressions: Sequence[EvalExpression]) -> Sequence[int] | None:
        """Positions in ``video.frames`` of the frames that are scored; None: all."""
        return None

    # ------------------------------------------------------------ MaskBenchmark

    def images(self, video: EvalVideo) -> Iterator[np.ndarray]:
        size = video.size
        for path in self.frame_paths(video):
            if not path.is_file():
                raise UserError(
                    f"no frame {path}{_there(path.parent)}; `refstream data check` lists all that is missing"
                )
            image = read_image(path)
            if size is not None and image.shape[:2] != size:
                raise UserError(
                    f"{path} is of size {image.shape[:2]}, but {size} is the size of its video's masks or "
                    "first frame; frames and masks must match"
                )
            size = (image.shape[0], image.shape[1])
            yield image

    def truth(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray | None:
        if self.masks is None:
            return None
        ids = self.annotations[video.id, expression.id]
        if ids is None:
            raise UserError(
                f"{self.path}, video {video.id!r}, expression {expression.id!r} names no masks, unlike "
                "others of the file"
            )
        return self.read_masks(video, ids, f"expression {expression.id!r}")

    def objects(self, video: EvalVideo) -> Iterator[np.ndarray]:
        """Each annotation that an expression of the video names, once; an empty one if they name none."""
        if self.masks is None:
            return
        names = dict.fromkeys(i for e in video.expressions for i in self.annotations[video.id, e.id] or ())
        groups: list[tuple[str, ...]] = [(name,) for name in names] or [()]
        for ids in groups:
            yield self.read_masks(video, ids, "its objects")

    def files(self) -> Iterable[Path]:
        yield self.path
        if isinstance(self.masks, CodedMasks):
            yield self.masks.table.path

    # ------------------------------------------------------------ reading

    def frame_paths(self, video: EvalVideo) -> list[Path]:
        """Files of the T frames, whether they are there or not."""
        return [self.image_folder / video.id / f"{frame}{EXTENSION}" for frame in video.frames]

    def positions(self, video: EvalVideo) -> list[int]:
        """Positions of the K scored frames in the order of the file, which lists of masks follow."""
        place = {frame: position for position, frame in enumerate(self.listed[video.id].frames)}
        return [place[frame] for frame in video.scored_frames]

    def size(self, video: EvalVideo) -> tuple[int, int]:
        """(H, W), from the first frame's header if no mask tells it. Raises UserError if nothing does."""
        return video.size or picture_size(self.frame_paths(video)[0])

    def read_masks(self, video: EvalVideo, ids: tuple[str, ...], what: str) -> np.ndarray:
        """The union of some annotations, (K, H, W) bool; of none: empty.

        Raises:
            UserError: If they are missing or do not fit the frames; names video and ``what`` needs them.
        """
        assert self.masks is not None
        listed = self.listed[video.id]
        if problem := self.masks.problem(listed, ids):
            raise UserError(
                f"{self.path}, video {video.id!r}, {what}: {problem} (annotations {', '.join(ids)})"
            )
        return self.masks.read(listed, ids, self.positions(video), self.size(video))

    def _video(self, name: str, record: object) -> EvalVideo:
        where = f"{self.path}, video {name!r}"
        values = expect(record, dict, where)
        frames = expect(values.get("frames"), list, f"{where}, key 'frames'")
        names = [relative_path(frame, f"{where}, a frame") for frame in frames]
        if not names or len(set(names)) != len(names):
            problem = "a frame is listed twice" if names else "no frames are listed"
            raise UserError(f"{where}: {problem}, so its masks cannot be matched to frames")
        self.listed[name] = Video(relative_path(name, where), tuple(names))
        expressions = tuple(self._expressions(name, values, where))
        size = self._stated_size(values) or self._coded_size(name, expressions)
        self.listed[name] = Video(name, tuple(names), size)
        ordered = sorted(range(len(names)), key=lambda i: natural_key(Path(names[i])))
        scored = self.scored(self.listed[name], expressions)
        chosen = None if scored is None else set(scored)
        return EvalVideo(
            name,
            tuple(names[i] for i in ordered),
            expressions,
            size=size,
            fps=self.fps,
            scored=None if chosen is None else tuple(t for t, i in enumerate(ordered) if i in chosen),
        )

    def _expressions(self, video: str, values: Mapping[str, Any], where: str) -> Iterator[EvalExpression]:
        for key, entry in expect(values.get("expressions"), dict, f"{where}, key 'expressions'").items():
            here = f"{where}, expression {key!r}"
            entry = expect(entry, dict, here)
            text = expect(entry.get("exp"), str, f"{here}, key 'exp'")
            ids = self.masks_of(video, key, entry, here)
            self.annotations[video, key] = None if ids is None else tuple(str(i) for i in ids)
            yield self.expression(key, text, entry, here)

    @staticmethod
    def _stated_size(values: Mapping[str, Any]) -> tuple[int, int] | None:
        height, width = values.get("height"), values.get("width")
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

    def _coded_size(self, video: str, expressions: Iterable[EvalExpression]) -> tuple[int, int] | None:
        """(H, W) of the codes of a video's annotations, None if there are none, or of several sizes."""
        if not isinstance(self.masks, CodedMasks):
            return None
        forms = self.masks.table.forms
        ids = {i for e in expressions for i in self.annotations[video, e.id] or () if i in forms}
        sizes = set().union(*(forms[i].sizes for i in ids))
        only = sizes.pop() if len(sizes) == 1 else ()
        return (only[0], only[1]) if len(only) == 2 else None


class LabelPictures(PaletteMasks):
    """Pictures of object numbers; one video's are kept, so that its expressions share one reading."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._last: tuple[tuple[str, tuple[str, ...]], np.ndarray] | None = None

    def labels(self, video: Video, positions: Sequence[int]) -> np.ndarray:
        """(K, H, W) uint8: the numbers, 255 where the annotators left the pixel out.

        Raises:
            UserError: If a picture is missing, has no numbers, or is of another size than the first.
        """
        frames = tuple(video.frames[position] for position in positions)
        key = (video.name, frames)
        if self._last is None or self._last[0] != key:
            paths = [self.folder / video.name / f"{frame}.png" for frame in frames]
            self._last = (key, np.stack(_of_one_size(paths, [read_labels(path) for path in paths])))
        return self._last[1]

    def read(
        self, video: Video, annotations: Sequence[str], positions: Sequence[int], size: tuple[int, int]
    ) -> np.ndarray:
        labels = self.labels(video, positions)
        if labels.shape[1:] != size:
            raise UserError(
                f"masks in {self.folder / video.name} are of size {labels.shape[1:]}, their frames of {size}"
            )
        return np.isin(labels, [int(number) for number in annotations])


def _there(folder: Path) -> str:
    """What a folder has, in words."""
    if not folder.is_dir():
        return f" (there is no folder {folder})"
    names = sorted(path.name for path in folder.glob(f"*{EXTENSION}"))
    return f" (there are {len(names)}: {brief(names)})"


def _of_one_size(paths: Sequence[Path], pictures: list[np.ndarray]) -> list[np.ndarray]:
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise UserError(
                f"mask {path} is of size {picture.shape}, {paths[0].name} of the same video of "
                f"{pictures[0].shape}"
            )
    return pictures


def picture_size(path: Path) -> tuple[int, int]:
    """(H, W) from the header of a picture, EXIF orientation applied, without decoding it.

    Raises:
        UserError: If it is missing or no picture.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            sideways = image.getexif().get(_ORIENTATION) in _SIDEWAYS
    except Exception as error:  # Pillow's plugins raise anything on corrupt data
        raise UserError(f"{path} is not a readable picture ({type(error).__name__}: {error})") from error
    return (width, height) if sideways else (height, width)


def first_file(root: Path, names: Sequence[str], hint: str = "see data/README.md") -> Path:
    """The first of some files that is there. Raises UserError, naming the first, if none is."""
    for name in names[1:]:
        if not (root / names[0]).is_file() and (root / name).is_file():
            return root / name
    others = f"; also looked for {', '.join(names[1:])}" if len(names) > 1 else ""
    return dataset_file(root, names[0], hint + others)


def has_file(root: Path, names: Sequence[str]) -> bool:
    """Whether any of some files is there."""
    return any((root / name).is_file() for name in names)
