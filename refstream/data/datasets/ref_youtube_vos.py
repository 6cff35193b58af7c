"""Ref-YouTube-VOS (Seo et al., URVOS, ECCV 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refstream.data.datasets.clip_masks import ClipMasks, CodedMasks, PaletteMasks
from refstream.data.datasets.mask_table import MaskTable, open_mask_table
from refstream.data.datasets.reading import dataset_file, dataset_root, expect
from refstream.data.datasets.video_expressions import VideoExpressions
from refstream.errors import UserError
from refstream.registry import DATASETS

TREE = (
    "train/JPEGImages/<video>/<frame>.jpg, meta_expressions/train/meta_expressions.json, "
    "and mask_dict.pkl or train/Annotations/<video>/<frame>.png"
)


@DATASETS.register_module()
class RefYouTubeVOSDataset(VideoExpressions):
    """Ref-YouTube-VOS train, with masks from VISA's dictionary or from the published pictures.

    The dictionary knows no ids of the expressions file: its keys count the expressions, over sorted videos
    and within a video over expression ids sorted as text ("0", "1", "10", "2"). As a dictionary made in
    another order would give wrong masks without a sign, it must have one entry per expression, and the
    expressions of one ``obj_id`` must have the same masks.

    Args:
        root: Folder of Ref-YouTube-VOS.
        num_frames: T, frames of a clip.
        sampling: Rule of ``choose_frames``.
        expressions: Most expressions of a clip.
        expression_file: Name inside ``root``.
        mask_file: Name inside ``root``; None reads ``annotation_folder`` in its place.
        image_folder: Name inside ``root``.
        annotation_folder: Name inside ``root``; palette PNG whose pixel value is ``obj_id``.

    Raises:
        UserError: If a file is missing or of another form, or nothing can be used.
    """

    def __init__(
        self,
        root: str | Path = "data/video_datas/rvos",
        num_frames: int = 5,
        sampling: str = "random_sorted",
        expressions: int = 1,
        expression_file: str = "meta_expressions/train/meta_expressions.json",
        mask_file: str | None = "mask_dict.pkl",
        image_folder: str = "train/JPEGImages",
        annotation_folder: str = "train/Annotations",
    ) -> None:
        folder = dataset_root(root, TREE)
        masks: ClipMasks
        if mask_file is None:
            masks = PaletteMasks(
                dataset_root(folder / annotation_folder, "a folder of palette PNG per video")
            )
        else:
            hint = f"set mask_file=None to read the pictures of {annotation_folder} in its place"
            masks = CodedMasks(open_mask_table(dataset_file(folder, mask_file, hint)))
        self._counted: dict[tuple[str, str], str] = {}
        super().__init__(
            folder,
            expression_file,
            image_folder,
            masks,
            num_frames=num_frames,
            sampling=sampling,
            expressions=expressions,
        )

    def prepare(self, videos: Mapping[str, Any]) -> None:
        if isinstance(self.masks, CodedMasks):
            self._counted = counted_annotations(videos)
            check_counted(self.masks.table, self._counted, videos)

    def annotations(self, video: str, expression: str, record: Mapping[str, Any]) -> Sequence[object] | None:
        if self._counted:
            return [self._counted[video, expression]]
        objects = record.get("obj_id")
        return objects if objects is None or isinstance(objects, list) else [objects]


def counted_annotations(videos: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """(video, expression id) -> annotation id, a count over both sorted as text.

    This is how VISA builds the dictionary. The released Sa2VA and StreamingRVOS readers count over the videos
    in the order of the file, which is the same as long as the file is sorted.
    """
    expressions = {
        video: expect(expect(record, dict, f"video {video!r}").get("expressions"), dict, f"video {video!r}")
        for video, record in videos.items()
    }
    names = [(video, key) for video in sorted(expressions) for key in sorted(expressions[video])]
    return {name: str(count) for count, name in enumerate(names)}


def check_counted(
    table: MaskTable, counted: Mapping[tuple[str, str], str], videos: Mapping[str, Any]
) -> None:
    """Raise UserError unless a dictionary was counted over these expressions, in this order."""
    if table.forms.keys() != set(counted.values()):
        raise UserError(
            f"{table.path} holds {len(table.forms)} annotations, expected one for each of the {len(counted)} "
            "expressions, named by a running count; it belongs to another expressions file"
        )
    first_of: dict[tuple[str, str], str] = {}
    for (video, key), annotation in counted.items():
        record = expect(videos[video]["expressions"][key], dict, f"expression {video}/{key}")
        number = record.get("obj_id")
        first = first_of.setdefault((video, str(number)), annotation)
        if number is not None and first != annotation and table[first] != table[annotation]:
            raise UserError(
                f"{table.path}: the expressions of video {video}, object {number}, have different masks "
                f"(annotations {first} and {annotation}), so it was counted in another order than "
                'expressions sorted as text ("0", "1", "10", "2"); build it again, or set mask_file=None'
            )
