"""ReVOS: referring and reasoning expressions (Yan et al., VISA, ECCV 2024)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refstream.data import rle
from refstream.data.datasets.clip_masks import CodedMasks
from refstream.data.datasets.mask_table import Form, JsonMasks, open_mask_table
from refstream.data.datasets.reading import dataset_file, dataset_root, expect
from refstream.data.datasets.revos import TYPE_NAMES
from refstream.data.datasets.video_expressions import listed_annotations
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo
from refstream.evaluation.readers.video_files import VideoFiles, first_file

TREE = "JPEGImages/<video>/<frame>.jpg, meta_expressions_valid_.json and mask_dict.json"
MASK_FILE, FOREGROUND_FILE = "mask_dict.json", "mask_dict_foreground.json"


class ReVOSBenchmark(VideoFiles):
    """A split of ReVOS. Groups are "referring", "reasoning" and "other" (``type_id`` 0, 1, 2).

    ``details`` of an expression: ``type_id``, and ``anno_id`` and ``obj_id`` as lists.

    Args:
        root: Folder of ReVOS.
        split: "valid" or "train".
        expression_file: Name inside ``root``; by default ``meta_expressions_<split>_.json``.
        mask_file: Name inside ``root``.
        foreground_file: Name inside ``root``. Where it is missing, the foreground is rebuilt from the masks,
            and ``settings["foreground"]`` says so.
        image_folder: Name inside ``root``; None takes JPEGImages, or ``root`` itself if there is none, where
            the released StreamingRVOS code looks.

    Raises:
        UserError: If a file is missing or of another form.
    """

    name = "revos"

    def __init__(
        self,
        root: str | Path = "data/video_datas/revos",
        split: str = "valid",
        *,
        expression_file: str | None = None,
        mask_file: str = MASK_FILE,
        foreground_file: str = FOREGROUND_FILE,
        image_folder: str | None = None,
    ) -> None:
        if split not in ("valid", "train"):
            raise UserError(f"ReVOS has the splits valid and train, got {split!r}")
        folder = dataset_root(root, TREE)
        if image_folder is None:
            image_folder = "JPEGImages" if (folder / "JPEGImages").is_dir() else ""
        names = (f"meta_expressions_{split}_.json", f"meta_expressions_{split}.json")
        path = folder / foreground_file
        self.foreground_masks = ForegroundMasks(path) if path.is_file() else None
        super().__init__(
            folder,
            split,
            expressions=first_file(folder, names if expression_file is None else (expression_file,)),
            images=folder / image_folder,
            masks=CodedMasks(open_mask_table(dataset_file(folder, mask_file))),
            settings={"foreground": "rebuilt" if self.foreground_masks is None else foreground_file},
        )

    def expression(self, key: str, text: str, record: Mapping[str, Any], where: str) -> EvalExpression:
        kind = expect(record.get("type_id"), int, f"{where}, key 'type_id'")
        if kind not in TYPE_NAMES:
            raise UserError(f"{where}: expected a type_id among {sorted(TYPE_NAMES)}, got {kind}")
        details = {"type_id": kind, "anno_id": record.get("anno_id"), "obj_id": record.get("obj_id")}
        return EvalExpression(
            key, text, TYPE_NAMES[kind], {k: v for k, v in details.items() if v is not None}
        )

    def masks_of(
        self, video: str, key: str, record: Mapping[str, Any], where: str
    ) -> Sequence[object] | None:
        return listed_annotations(record, where)

    def files(self) -> Iterable[Path]:
        yield from super().files()
        if self.foreground_masks is not None:
            yield self.foreground_masks.path

    def instance_sum(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray:
        """(K, H, W) uint8: how many instances of the target cover each pixel, modulo 256.

        The public scorer of A and R works on this sum instead of the union.

        Raises:
            UserError: As ``truth``.
        """
        ids = self.annotations[video.id, expression.id]
        if self.masks is None or ids is None:
            raise UserError(f"{self.path}, video {video.id!r}, expression {expression.id!r} names no masks")
        total = np.zeros((len(video.scored_frames), *self.size(video)), dtype=np.uint8)
        for name in ids:
            total += self.read_masks(video, (name,), f"expression {expression.id!r}")
        return total

    def foreground(self, video: EvalVideo) -> np.ndarray:
        """(K, H, W) bool: the union of all instances that any expression of the video names.

        Raises:
            UserError: If the foreground file lacks the video, or its masks do not fit the frames.
        """
        if self.foreground_masks is None:
            named = [i for e in video.expressions for i in self.annotations[video.id, e.id] or ()]
            return self.read_masks(video, tuple(dict.fromkeys(named)), "its foreground")
        frames = self.foreground_masks.frames(video.id)
        path = self.foreground_masks.path
        if len(frames) != len(video.frames):
            raise UserError(f"{path}, video {video.id!r}: {len(frames)} masks for {len(video.frames)} frames")
        union = np.zeros((len(video.scored_frames), *self.size(video)), dtype=bool)
        for mask, position in zip(union, self.positions(video), strict=True):
            for code in frames[position]:
                try:
                    mask |= rle.decode_clip([code], (mask.shape[0], mask.shape[1]))[0]
                except ValueError as error:
                    raise UserError(f"{path}, video {video.id!r}: {error}") from error
        return union


class ForegroundMasks(JsonMasks):
    """``{video: {"masks_rle": [...]}}``, or ``{video: [...]}``; a frame is a code, several, or null."""

    def frames(self, video: str) -> list[list[rle.RLE]]:
        """The codes of each frame, whose union is meant. Raises UserError if the video is not there."""
        if video not in self.forms:
            raise UserError(f"{self.path} lacks video {video!r}; delete the file to have it rebuilt")
        return _codes_by_frame(self[video], f"{self.path}, video {video!r}")

    def _form(self, name: str, codes: Any) -> Form:
        frames = _codes_by_frame(codes, f"{self.path}, video {name!r}")
        flat = super()._form(name, [code for frame in frames for code in frame])
        return Form(len(frames), flat.sizes)


def _codes_by_frame(content: Any, where: str) -> list[list[rle.RLE]]:
    frames = content.get("masks_rle") if isinstance(content, dict) else content
    frames = expect(frames, list, f"{where}, its masks")
    return [frame if isinstance(frame, list) else [] if frame is None else [frame] for frame in frames]
