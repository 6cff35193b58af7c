"""Ref-SAV: captions of SA-V's objects (Yuan et al., Sa2VA, 2025; videos and masks of SAM 2's authors)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from refstream.data import rle
from refstream.data.collate import ClipSample
from refstream.data.datasets.reading import (
    FolderListings,
    LeftOut,
    dataset_file,
    dataset_root,
    expect,
    read_object,
    relative_path,
)
from refstream.data.sampling import check_sampling, choose_frames
from refstream.errors import UserError
from refstream.registry import DATASETS
from refstream.video import open_video

TREE = "sam_v_final_v3.json (published as Ref-SAV.json), and SA-V's videos and masklets in sam_v_full"
FRAMES_PER_MASK = 4
"""SA-V annotates every 4th frame: 6 a second of videos at 24."""
Captions = Literal["formated", "short", "both"]


@dataclass(frozen=True)
class CaptionedObject:
    """An object of a video and what is said of it.

    Attributes:
        channel: Its place in every frame's list of ``masklet``.
        captions: At least one.
    """

    channel: int
    captions: tuple[str, ...]


@dataclass(frozen=True)
class CaptionedVideo:
    """A video with at least one captioned object."""

    name: str
    video: Path
    masks: Path
    objects: tuple[CaptionedObject, ...]


@DATASETS.register_module()
class RefSAVDataset:
    """Ref-SAV; one index per video. Of a video, every 4th frame is used: those that SA-V annotates.

    Opening checks that the files are there and opens none of them. What cannot be used is left out, counted
    in ``report()`` and logged once.

    Args:
        root: Folder of video datasets.
        num_frames: T, frames of a clip.
        sampling: Rule of ``choose_frames``, over the annotated frames.
        expressions: Most objects of a clip, drawn without replacement, one caption each.
        captions: "formated" for the long one (as in the released code), "short" for one of ``short_caps``,
            "both" for one of all.
        expression_file, video_folder: Names inside ``root``.

    Raises:
        UserError: If a file is missing or of another form, or nothing can be used.
    """

    def __init__(
        self,
        root: str | Path = "data/video_datas",
        num_frames: int = 5,
        sampling: str = "random_sorted",
        expressions: int = 1,
        captions: Captions = "formated",
        expression_file: str = "sam_v_final_v3.json",
        video_folder: str = "sam_v_full",
    ) -> None:
        check_sampling(sampling, num_frames)
        if expressions < 1:
            raise ValueError(f"a clip needs at least one expression, got expressions = {expressions}")
        if captions not in get_args(Captions):
            raise ValueError(f"captions must be one of {', '.join(get_args(Captions))}, got {captions!r}")
        self.root = dataset_root(root, TREE)
        self.folder = dataset_root(self.root / video_folder, "SA-V's videos (.mp4) and masklets (.json)")
        self.num_frames, self.sampling, self.expressions = num_frames, sampling, expressions
        self.captions = captions
        self.left_out = LeftOut()
        hint = "it is published as Ref-SAV.json: rename it, or set expression_file"
        self.path = dataset_file(self.root, expression_file, hint)
        self.videos = list(self._usable(read_object(self.path)))
        self.left_out.close(type(self).__name__, self.root, len(self.videos))

    def __len__(self) -> int:
        return len(self.videos)

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        """A clip of video ``index`` with captions of some of its objects.

        Raises:
            UserError: If video and masks cannot be read, or do not fit each other.
        """
        source = self.videos[index]
        number = min(self.expressions, len(source.objects))
        chosen = [source.objects[i] for i in rng.choice(len(source.objects), number, replace=False)]
        captions = [thing.captions[rng.integers(len(thing.captions))] for thing in chosen]
        masklet = read_masklet(source.masks)
        positions = choose_frames(len(masklet), self.num_frames, self.sampling, rng)
        frames = read_frames(source.video, positions, len(masklet))
        size = (frames.shape[1], frames.shape[2])
        return ClipSample(
            frames=frames,
            expressions=captions,
            masks=np.stack([read_object_masks(source, thing, masklet, positions, size) for thing in chosen]),
            id=f"{type(self).__name__} {source.name}: objects {','.join(str(t.channel) for t in chosen)}, "
            f"frames {','.join(str(FRAMES_PER_MASK * position) for position in positions)}",
        )

    def report(self) -> dict[str, Any]:
        """What is used (``videos``, ``expressions``) and what is ``left_out``, by reason."""
        return {
            "dataset": type(self).__name__,
            "root": str(self.root),
            "videos": len(self.videos),
            "expressions": sum(len(thing.captions) for source in self.videos for thing in source.objects),
            "left_out": self.left_out.report(),
        }

    def _usable(self, videos: Mapping[str, Any]) -> Iterator[CaptionedVideo]:
        listings = FolderListings()
        for name, record in videos.items():
            where = f"{self.path}, video {name!r}"
            values = expect(record, dict, where)
            files = [
                self._file(relative_path(values.get(key), f"{where}, key {key!r}"), listings)
                for key in ("video_path", "anno_path")
            ]
            objects = tuple(self._objects(name, expect(values.get("objects"), dict, f"{where}, 'objects'")))
            if files[0] is None:
                self.left_out.add("video without its file", name)
            elif files[1] is None:
                self.left_out.add("video without its masklets", name)
            elif not objects:
                self.left_out.add("video without captioned objects", name)
            else:
                yield CaptionedVideo(name, files[0], files[1], objects)

    def _file(self, name: str, listings: FolderListings) -> Path | None:
        """The file of this name, or of the name without the folder that the published list doubles.

        Ref-SAV writes "sav_000/sav_train/sav_000/x.mp4" where SA-V unpacks "sav_train/sav_000/x.mp4".
        """
        parts = name.split("/")
        names = [name]
        if "sav_train" in parts[1:-1]:
            at = parts.index("sav_train", 1)
            if parts[at - 1] == parts[at + 1]:
                names.append("/".join(parts[: at - 1] + parts[at:]))
        return next((self.folder / n for n in names if (self.folder / n) in listings), None)

    def _objects(self, video: str, objects: Mapping[str, Any]) -> Iterator[CaptionedObject]:
        for key, record in objects.items():
            where = f"{self.path}, video {video!r}, object {key!r}"
            values = expect(record, dict, where)
            if not key.isdecimal():
                raise UserError(f"{where}: expected a number, the object's place in masklet")
            found = [values.get("formated")] if self.captions != "short" else []
            found += (
                expect(values.get("short_caps") or [], list, where) if self.captions != "formated" else []
            )
            captions = tuple(text.strip() for text in found if isinstance(text, str) and text.strip())
            if captions:
                yield CaptionedObject(int(key), captions)
            else:
                self.left_out.add("object without captions", f"{video}/{key}")


def read_masklet(path: Path) -> list[list[rle.RLE]]:
    """SA-V's ``masklet``: for each annotated frame one code per object. Raises UserError for another form."""
    masklet = expect(read_object(path).get("masklet"), list, f"{path}, key 'masklet'")
    if not masklet or not all(isinstance(codes, list) for codes in masklet):
        raise UserError(f"{path}, key 'masklet': expected a list of RLE for each annotated frame")
    return masklet


def read_object_masks(
    source: CaptionedVideo,
    thing: CaptionedObject,
    masklet: Sequence[Sequence[rle.RLE]],
    positions: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """(T, H, W) bool of one object. Raises UserError if it is not there, or of another size than ``size``."""
    try:
        return rle.decode_clip([masklet[position][thing.channel] for position in positions], size)
    except (ValueError, IndexError) as error:
        raise UserError(
            f"{source.masks}: object {thing.channel} does not fit {source.video.name}, whose frames are "
            f"{size}: {error}"
        ) from error


def read_frames(path: Path, positions: np.ndarray, num_masks: int) -> np.ndarray:
    """Frames 4 * positions of a video, (T, H, W, 3) uint8 RGB; decoding stops at the last.

    Raises:
        UserError: If the video cannot be read, or has not ``num_masks`` annotated frames.
    """
    wanted = {int(position) * FRAMES_PER_MASK for position in positions}
    images: dict[int, np.ndarray] = {}
    with open_video(path) as source:
        annotated = None if source.num_frames is None else -(-source.num_frames // FRAMES_PER_MASK)
        if annotated not in (None, num_masks):
            raise UserError(
                f"{path} has {source.num_frames} frames, of which every 4th makes {annotated}, "
                f"but {num_masks} are annotated"
            )
        for frame in source:
            if frame.index in wanted:
                images[frame.index] = frame.image
            if len(images) == len(wanted):
                break
    if len(images) < len(wanted):
        missing = min(wanted - images.keys())
        raise UserError(f"{path} ends before frame {missing}, which is annotated; is it complete?")
    return np.stack([images[int(position) * FRAMES_PER_MASK] for position in positions])
