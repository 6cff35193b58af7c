"""How large the official splits are: facts to hold a download against, never asserted when reading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class OfficialCounts:
    """Sizes of a split.

    Attributes:
        counts: What is counted ("videos", "expressions", "objects") -> how many.
        source: Where the figures are from.
        assumed: Not confirmed from files or public code; a difference may be our error.
    """

    counts: Mapping[str, int]
    source: str
    assumed: bool = False


_DAVIS = "DAVIS-2017 ImageSets; its first-frame labels and the four text files"
_MEVIS = "README of henghuiding/MeViS"
_YOUTUBE = "public lists of valid and test; 202 is asserted by wjn922/ReferFormer"
_REVOS = "Yan et al., VISA, ECCV 2024, table of ReVOS"

OFFICIAL: dict[tuple[str, str], OfficialCounts] = {
    ("ref_davis17", "valid"): OfficialCounts({"videos": 30, "objects": 61, "expressions": 244}, _DAVIS),
    ("ref_davis17", "train"): OfficialCounts({"videos": 60}, _DAVIS),
    ("mevis", "train"): OfficialCounts({"videos": 1662, "expressions": 23051}, _MEVIS),
    ("mevis", "valid_u"): OfficialCounts({"videos": 50, "expressions": 793}, _MEVIS),
    ("mevis", "valid"): OfficialCounts({"videos": 140, "expressions": 2236}, _MEVIS),
    ("mevis", "test"): OfficialCounts({"videos": 154, "expressions": 2490}, _MEVIS, assumed=True),
    ("mevis_v2", "train"): OfficialCounts({"videos": 1662, "expressions": 27502}, _MEVIS),
    ("mevis_v2", "valid_u"): OfficialCounts({"videos": 50, "expressions": 907}, _MEVIS),
    ("mevis_v2", "valid"): OfficialCounts({"videos": 140, "expressions": 2523}, _MEVIS),
    ("revos", "train"): OfficialCounts({"videos": 626}, _REVOS, assumed=True),
    ("revos", "valid"): OfficialCounts({"videos": 416}, _REVOS, assumed=True),
    ("ref_youtube_vos", "valid"): OfficialCounts({"videos": 202, "expressions": 834}, _YOUTUBE),
    ("ref_youtube_vos", "test"): OfficialCounts({"videos": 305, "expressions": 1262}, _YOUTUBE),
    ("ref_youtube_vos", "train"): OfficialCounts({"videos": 3471}, _YOUTUBE, assumed=True),
}
"""(benchmark, split) -> sizes."""


def official_counts(name: str, split: str) -> OfficialCounts | None:
    """The sizes of a split, None if none are known."""
    return OFFICIAL.get((name, split))
