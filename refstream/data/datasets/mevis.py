"""MeViS: motion expressions for one or several objects (Ding et al., ICCV 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refstream.data.datasets.clip_masks import CodedMasks
from refstream.data.datasets.mask_table import open_mask_table
from refstream.data.datasets.reading import dataset_file, dataset_root
from refstream.data.datasets.video_expressions import VideoExpressions, listed_annotations
from refstream.registry import DATASETS

TREE = "JPEGImages/<video>/<frame>.jpg, meta_expressions.json and mask_dict.json"


@DATASETS.register_module()
class MeViSDataset(VideoExpressions):
    """MeViS train (or ``valid_u``); ``valid`` and ``test`` carry no masks and cannot be trained on.

    An expression means the union of the masks of its ``anno_id``. For version 2 set ``expression_file`` to
    "meta_expressions_v2.json"; its expressions without a target are used with ``keep_absent``.

    Args:
        root: Folder of one split.
        num_frames: T, frames of a clip.
        sampling: Rule of ``choose_frames``.
        expressions: Most expressions of a clip.
        keep_absent: Also train on expressions without a target.
        expression_file, mask_file, image_folder: Names inside ``root``.

    Raises:
        UserError: If a file is missing or of another form, or nothing can be used.
    """

    def __init__(
        self,
        root: str | Path = "data/video_datas/mevis/train",
        num_frames: int = 5,
        sampling: str = "random_sorted",
        expressions: int = 1,
        keep_absent: bool = False,
        expression_file: str = "meta_expressions.json",
        mask_file: str = "mask_dict.json",
        image_folder: str = "JPEGImages",
    ) -> None:
        folder = dataset_root(root, TREE)
        hint = "MeViS valid and test have no masks and cannot be trained on: set root to train or valid_u"
        super().__init__(
            folder,
            expression_file,
            image_folder,
            CodedMasks(open_mask_table(dataset_file(folder, mask_file, hint))),
            num_frames=num_frames,
            sampling=sampling,
            expressions=expressions,
            keep_absent=keep_absent,
        )

    def annotations(self, video: str, expression: str, record: Mapping[str, Any]) -> Sequence[object] | None:
        return listed_annotations(record, f"{self.path}, {video}/{expression}")
