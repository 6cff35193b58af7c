"""ReVOS: referring and reasoning expressions (Yan et al., VISA, ECCV 2024)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refstream.data.datasets.clip_masks import CodedMasks, Video
from refstream.data.datasets.mask_table import open_mask_table
from refstream.data.datasets.reading import dataset_file, dataset_root, expect
from refstream.data.datasets.video_expressions import Expression, VideoExpressions, listed_annotations
from refstream.registry import DATASETS

TREE = "JPEGImages/<video>/<frame>.jpg, meta_expressions_train_.json and mask_dict.json"
TYPE_NAMES = {0: "referring", 1: "reasoning", 2: "other"}
"""ReVOS's ``type_id``; 2 is "nan" in its tables."""


@DATASETS.register_module()
class ReVOSDataset(VideoExpressions):
    """ReVOS train. Names of videos may be paths; masks of different objects may overlap (the union is taken).

    Args:
        root: Folder of ReVOS.
        num_frames: T, frames of a clip.
        sampling: Rule of ``choose_frames``.
        expressions: Most expressions of a clip.
        types: Which ``type_id`` to use (0 referring, 1 reasoning, 2 other); None uses all, as the released
            code does.
        keep_absent: Also train on expressions with an empty ``anno_id``, as the released code does.
        expression_file, mask_file: Names inside ``root``.
        image_folder: Name inside ``root``; None takes JPEGImages, as ReVOS is published, where it exists, and
            otherwise ``root`` itself, where the released StreamingRVOS code looks.

    Raises:
        UserError: If a file is missing or of another form, or nothing can be used.
    """

    def __init__(
        self,
        root: str | Path = "data/video_datas/revos",
        num_frames: int = 5,
        sampling: str = "random_sorted",
        expressions: int = 1,
        types: Sequence[int] | None = None,
        keep_absent: bool = False,
        expression_file: str = "meta_expressions_train_.json",
        mask_file: str = "mask_dict.json",
        image_folder: str | None = None,
    ) -> None:
        if types is not None and not set(types) <= set(TYPE_NAMES):
            raise ValueError(f"types must be among {sorted(TYPE_NAMES)}, got {list(types)}")
        folder = dataset_root(root, TREE)
        if image_folder is None:
            image_folder = "JPEGImages" if (folder / "JPEGImages").is_dir() else ""
        self.types = None if types is None else set(types)
        self._type_of: dict[tuple[str, str], int] = {}
        super().__init__(
            folder,
            expression_file,
            image_folder,
            CodedMasks(open_mask_table(dataset_file(folder, mask_file))),
            num_frames=num_frames,
            sampling=sampling,
            expressions=expressions,
            keep_absent=keep_absent,
        )

    def annotations(self, video: str, expression: str, record: Mapping[str, Any]) -> Sequence[object] | None:
        where = f"{self.path}, {video}/{expression}"
        self._type_of[video, expression] = expect(record.get("type_id"), int, f"{where}, key 'type_id'")
        return listed_annotations(record, where)

    def report(self) -> dict[str, Any]:
        """As the base, and how many expressions of each type are used (``types``)."""
        types = Counter(
            TYPE_NAMES.get(self._type_of[source.video.name, expression.id], "unknown")
            for source in self.videos
            for expression in source.expressions
        )
        return super().report() | {"types": dict(types)}

    def _problem(self, video: Video, expression: Expression) -> str | None:
        if self.types is not None and self._type_of[video.name, expression.id] not in self.types:
            return "expression of a type not asked for"
        return super()._problem(video, expression)
