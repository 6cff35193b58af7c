"""The options of ``refstream data``. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from refstream.cli.arguments import _count, _positive

LAYOUTS = ("mevis", "revos", "ref_davis17", "ref_youtube_vos", "refcoco", "refcoco+", "refcocog")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the commands ``minirvos``, ``streams``, ``check`` and ``prepare``."""
    commands = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    _minirvos(_command(commands, "minirvos", "write synthetic data in the layout of an official dataset"))
    _streams(_command(commands, "streams", "write synthetic streams with questions in OVO-Bench's format"))
    _check(_command(commands, "check", "say what is missing, misaligned or misspelt in a dataset"))
    _prepare(_command(commands, "prepare", "make files that downloads lack, such as Ref-DAVIS17 from DAVIS"))


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str
) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)


def _minirvos(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Write MiniRVOS in the layout of an official dataset, see docs/data.md; several splits may share a folder.
A development benchmark: not to be quoted as a result on real data.
"""
    parser.epilog = """\
examples:
  refstream data minirvos --layout mevis --out data/minirvos/mevis --split train --clips 200
  refstream data minirvos --layout mevis --out data/minirvos/mevis --split val        (written as valid_u)
  refstream data minirvos --layout refcoco+ --out data/minirvos/refcoco+ --split test --layout-split testB
"""
    parser.add_argument("--layout", choices=LAYOUTS, default="mevis", help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="root of the dataset")
    parser.add_argument("--layout-split", metavar="SPLIT", help="official split to write --split as")
    parser.add_argument("--split", choices=["train", "val", "test"], default="test")
    parser.add_argument("--world", choices=["rich", "plain"], default="rich", help="default: %(default)s")
    parser.add_argument("--seed", type=_count, default=0)
    parser.add_argument("--clips", type=_positive, default=10, metavar="N", help="or pictures, default 10")
    parser.add_argument("--frames", type=_positive, default=24, metavar="T")
    parser.add_argument("--size", type=_positive, default=128, help="side in pixels")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _streams(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Write MiniRVOS streams in OVO-Bench's format, see docs/data.md: things happen to shapes, and are asked about.
A development benchmark: not to be quoted as a result on real data.
"""
    parser.epilog = """\
example:
  refstream data streams --out data/minirvos/ovo --streams 50
  refstream eval MODEL --benchmark ovo --data data/minirvos/ovo
"""
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="root of the benchmark")
    parser.add_argument("--split", choices=["train", "val", "test"], default="test")
    parser.add_argument("--seed", type=_count, default=0)
    parser.add_argument("--streams", type=_positive, default=10, metavar="N", help="videos, default 10")
    parser.add_argument("--seconds", type=_positive, default=20, metavar="S", help="of each, default 20")
    parser.add_argument("--size", type=_positive, default=128, help="side in pixels")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _check(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Look at a dataset before hours are spent on it: files, folders and words that are missing, frames and masks
that do not match, names that are misspelt, pictures that cannot be read, sizes other than the official ones.
Leaves with code 0 if there is nothing to mend, 1 if there is (a missing folder, too), 2 for an unknown name.
"""
    parser.epilog = """\
examples:
  refstream data check ref_davis17 data/video_datas/davis17
  refstream data check mevis data/video_datas/mevis --split valid_u --all-pictures
  refstream data check MeViSDataset data/video_datas/mevis/train        (as training reads it)
"""
    parser.add_argument("name", metavar="BENCHMARK", help="or the class of a training dataset")
    parser.add_argument("root", type=Path, nargs="?", metavar="ROOT", help="default: see data/README.md")
    parser.add_argument("--split", metavar="S", help="default: the one that is scored")
    parser.add_argument(
        "--all-pictures", action="store_true", help="decode every frame and mask, not only a sample"
    )
    parser.add_argument(
        "--subset", action="store_true", help="it is meant to be smaller than the official split"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the report as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no report")


def _prepare(parser: argparse.ArgumentParser) -> None:
    targets = parser.add_subparsers(dest="target", metavar="TARGET", required=True)
    davis = _command(targets, "ref_davis17", "Ref-DAVIS17 from DAVIS-2017 and the four text files")
    davis.description = """\
Build Ref-DAVIS17 as evaluation reads it from DAVIS-2017-Unsupervised-trainval-480p and the four files
Davis17_annot*.txt of Khoreva et al.
"""
    davis.epilog = """\
example:
  refstream data prepare ref_davis17 --davis DAVIS --texts davis_text_annotations \\
      --out data/video_datas/davis17
"""
    davis.add_argument(
        "--davis", type=Path, required=True, metavar="FOLDER", help="holds JPEGImages, ImageSets, ..."
    )
    davis.add_argument("--texts", type=Path, required=True, metavar="FOLDER", help="holds the text files")
    davis.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="root of the new dataset")
    davis.add_argument("--split", choices=["valid", "train"], default="valid", help="default: %(default)s")
    davis.add_argument("--copy", action="store_true", help="copy pictures; by default folders are linked")
    davis.add_argument(
        "--annotations",
        default="Annotations_unsupervised",
        metavar="NAME",
        help="folder of DAVIS with the masks, default: %(default)s",
    )
    masks = _command(targets, "mask_dict", "mask_dict.pkl of Ref-DAVIS17 or Ref-YouTube-VOS from its PNG")
    masks.add_argument("layout", choices=["davis17", "rvos"], help="the papers' name of the dataset")
    masks.add_argument("root", type=Path, metavar="ROOT", help="of the dataset")
    masks.add_argument("--split", metavar="S", help="default: valid for davis17, train for rvos")
    foreground = _command(targets, "revos_foreground", "mask_dict_foreground.json of ReVOS")
    foreground.add_argument("root", type=Path, metavar="ROOT", help="of ReVOS")
    for target in (masks, foreground):
        target.add_argument("--out", type=Path, metavar="FILE", help="default: where evaluation looks")
        target.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    for target in (davis, masks, foreground):
        target.add_argument("--quiet", action="store_true", help="no progress bar")
