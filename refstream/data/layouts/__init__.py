"""Writers of MiniRVOS in the layouts of the official datasets, so that the real readers are tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from refstream.data.layouts.common import Clips, LayoutReport, Tally
from refstream.data.layouts.mevis import write_mevis
from refstream.data.layouts.ref_davis17 import write_ref_davis17
from refstream.data.layouts.ref_youtube_vos import write_ref_youtube_vos
from refstream.data.layouts.refcoco import write_refcoco, write_refcoco_plus, write_refcocog
from refstream.data.layouts.revos import write_revos
from refstream.errors import UserError
from refstream.synthetic.minirvos import MiniRVOS, SyntheticClip

__all__ = ["LAYOUTS", "Layout", "LayoutReport", "write_layout"]


@dataclass(frozen=True)
class Layout:
    """How a dataset lies on disk.

    Attributes:
        write: Writes clips below a folder as an official split.
        splits: The official splits.
        default: Split of MiniRVOS -> the official split it is written as unless told otherwise.
        stills: Whether it holds pictures: stills of MiniRVOS instead of its clips.
    """

    write: Callable[[Clips, Path, str], Tally]
    splits: tuple[str, ...]
    default: Mapping[str, str]
    stills: bool = False


_UNC = ("train", "val", "testA", "testB")
_TRAIN_VALID = {"train": "train", "val": "valid", "test": "valid"}
_UNC_DEFAULT = {"train": "train", "val": "val", "test": "testA"}
LAYOUTS: dict[str, Layout] = {
    "mevis": Layout(
        write_mevis,
        ("train", "valid_u", "valid"),
        {"train": "train", "val": "valid_u", "test": "valid_u"},
    ),
    "revos": Layout(write_revos, ("train", "valid"), _TRAIN_VALID),
    "ref_davis17": Layout(write_ref_davis17, ("train", "valid"), _TRAIN_VALID),
    "ref_youtube_vos": Layout(
        write_ref_youtube_vos,
        ("train", "valid", "test"),
        {"train": "train", "val": "valid", "test": "test"},
    ),
    "refcoco": Layout(write_refcoco, _UNC, _UNC_DEFAULT, stills=True),
    "refcoco+": Layout(write_refcoco_plus, _UNC, _UNC_DEFAULT, stills=True),
    "refcocog": Layout(
        write_refcocog,
        ("train", "val", "test"),
        {"train": "train", "val": "val", "test": "test"},
        stills=True,
    ),
}


def write_layout(
    name: str,
    source: MiniRVOS,
    root: str | Path,
    *,
    split: str | None = None,
    progress: Callable[[], object] | None = None,
) -> LayoutReport:
    """Write MiniRVOS as an official dataset.

    A tree can hold several splits: write one after the other into the same folder.

    Args:
        name: A name of ``LAYOUTS``.
        source: What to write: ``len(source)`` clips, or as many stills for layouts of pictures.
        root: Folder of the dataset, such as ``data/video_datas/mevis``; made if it is not there.
        split: Official split to write it as, by default that of ``source`` (``Layout.default``).
        progress: Called after each clip.

    Returns:
        What was written and what was left out, since the layout cannot say it.

    Raises:
        UserError: If the layout or split is unknown, or the split is there already.
    """
    if name not in LAYOUTS:
        raise UserError(f"the layout must be one of {', '.join(LAYOUTS)}; got {name!r}")
    layout = LAYOUTS[name]
    split = layout.default[source.split] if split is None else split
    if split not in layout.splits:
        raise UserError(f"the splits of {name} are {', '.join(layout.splits)}; got {split!r}")
    tally = layout.write(_clips(source, layout.stills, progress), Path(root), split)
    return LayoutReport(name, split, Path(root), tally.clips, tally.expressions, dict(tally.left_out))


def _clips(source: MiniRVOS, stills: bool, progress: Callable[[], object] | None) -> Iterator[SyntheticClip]:
    for index in range(len(source)):
        yield source.still(index) if stills else source[index]
        if progress is not None:
            progress()
