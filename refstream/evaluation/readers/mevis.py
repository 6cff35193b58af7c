"""MeViS (Ding et al., ICCV 2023), and version 2 with expressions that have no target (arXiv 2512.10945)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refstream.data.datasets.clip_masks import CodedMasks
from refstream.data.datasets.mask_table import open_mask_table
from refstream.data.datasets.reading import dataset_root
from refstream.data.datasets.video_expressions import listed_annotations
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression
from refstream.evaluation.readers.video_files import VideoFiles, first_file

SPLITS = ("train", "valid_u", "valid", "test")
SCORED_SPLITS = ("train", "valid_u")
"""Those whose masks are public."""
EXPRESSION_FILES = {
    1: ("meta_expressions.json",),
    2: ("meta_expressions_v2.json", "meta_expressions_v2_release.json"),
}
"""Version -> names as published; version 2 calls that of valid "release"."""
MASK_FILE = "mask_dict.json"


class MeViSBenchmark(VideoFiles):
    """A split of MeViS. A target is the union of the masks of ``anno_id``; an empty list means no target.

    ``details`` of an expression: ``anno_id`` and ``obj_id`` as lists, where the file has them, and
    ``no_target``.

    Args:
        root: Folder of MeViS.
        split: "valid_u", or "train"; "valid" and "test" have no public masks, so their truth is None.
        version: 1 or 2.
        folder: Name inside ``root`` of the split's folder; by default the split's name.
        expression_file: Name inside that folder; by default as published.
        mask_file: The same.

    Raises:
        UserError: If a file is missing or of another form.
    """

    name: str

    def __init__(
        self,
        root: str | Path = "data/video_datas/mevis",
        split: str = "valid_u",
        version: int = 1,
        *,
        folder: str | None = None,
        expression_file: str | None = None,
        mask_file: str = MASK_FILE,
    ) -> None:
        if split not in SPLITS or version not in EXPRESSION_FILES:
            raise UserError(
                f"MeViS has the splits {', '.join(SPLITS)} and the versions 1 and 2; got {split!r}, {version}"
            )
        split_name = split if folder is None else folder
        self.name = "mevis" if version == 1 else "mevis_v2"  # as in the table of benchmarks
        place = dataset_root(Path(root) / split_name, "JPEGImages and meta_expressions.json")
        names = EXPRESSION_FILES[version] if expression_file is None else (expression_file,)
        masks = None
        if split in SCORED_SPLITS:
            hint = f"the masks of MeViS {split} are public; see data/README.md"
            masks = CodedMasks(open_mask_table(first_file(place, (mask_file,), hint)))
        super().__init__(
            Path(root),
            split,
            expressions=first_file(place, names, f"version {version} of MeViS; see data/README.md"),
            images=place / "JPEGImages",
            masks=masks,
            settings={"version": version},
        )

    def expression(self, key: str, text: str, record: Mapping[str, Any], where: str) -> EvalExpression:
        ids = listed_annotations(record, where)
        if ids is None:
            return EvalExpression(key, text)
        objects = record.get("obj_id")
        details = {"anno_id": ids, "obj_id": objects, "no_target": not ids}
        return EvalExpression(key, text, details={k: v for k, v in details.items() if v is not None})

    def masks_of(
        self, video: str, key: str, record: Mapping[str, Any], where: str
    ) -> Sequence[object] | None:
        return listed_annotations(record, where)
