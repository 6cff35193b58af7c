"""The options of ``refstream score`` and ``refstream submit``. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from refstream.cli.arguments import add_jobs, add_launcher

FORMS = """\
PREDICTIONS is one of:
  FOLDER[/Annotations]/<video>/<expression id>/<frame>.png    any value but 0 is the target
  FOLDER/<video>/<expression id>.npz      masks (T,H,W), or mask_logits (T,h,w) to be resized and thresholded
  FOLDER/<video>/<expression id>.json     RLE of one expression
  FOLDER/anno_<a>/<video>/<frame>.png     label maps of Ref-DAVIS17
  results.json                            {video: {expression id: {"prediction_masks": [RLE or null, ...]}}},
                                          {sentence id: RLE}, or COCO results
  a folder of `refstream eval`
"""


def add_score(parser: argparse.ArgumentParser) -> None:
    """Options of ``refstream score``."""
    parser.description = f"""\
Score saved predictions on a benchmark. What is finished stays: the same command goes on where it was killed.

{FORMS}
Writes into --out:
  result.json     figures, settings, what was missing
  items.csv       one line per expression
  report.html     tables, curves, best and worst cases as pictures; opens without a server
  predictions/    scores of each video, from which an interrupted run goes on
"""
    parser.epilog = """\
examples:
  refstream score work_dirs/m/MEVIS_U/results.json --benchmark mevis --data data/video_datas/mevis
  refstream score out/Annotations --benchmark revos --missing score --published
  refstream score out --benchmark ref_davis17 --protocol davis-official
"""
    _what(parser)
    parser.add_argument("--protocol", metavar="P", help="default: the benchmark's first")
    parser.add_argument("--compat", metavar="C", help="reproduce known defects of public code; default: none")
    parser.add_argument(
        "--missing",
        choices=["refuse", "score"],
        default="refuse",
        help="an incomplete set: refuse it, or score it as the protocol says; default: %(default)s",
    )
    parser.add_argument("--published", action="store_true", help="show the papers' figures beside")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="default: outputs/score/<predictions>-<benchmark>-<split>"
    )
    parser.add_argument("--fresh", action="store_true", help="begin anew: remove what --out has of a run")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no notes, no table")
    group = parser.add_argument_group("speed")
    add_jobs(group)
    add_launcher(group)


def add_submit(parser: argparse.ArgumentParser) -> None:
    """Options of ``refstream submit``."""
    parser.description = f"""\
Write the zip that a benchmark's server takes: an 8-bit picture of 0 and 255 per expression and frame, in the
frames' own size. It is opened again and checked, picture by picture, before it is called done. Leaves with
code 1 if --check finds something wrong.

{FORMS}"""
    parser.epilog = """\
examples:
  refstream submit outputs/eval/m-mevis-valid --benchmark mevis --split valid --out mevis.zip
  refstream submit out/results.json --benchmark ref_youtube_vos --data data/video_datas/rvos
  refstream submit --check other.zip --benchmark mevis --split valid          (a zip made by another tool)
"""
    _what(parser, optional=True)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="default: outputs/submit/<predictions>-<benchmark>-<split>.zip",
    )
    parser.add_argument(
        "--missing",
        choices=["refuse", "empty"],
        default="refuse",
        help="an incomplete set: refuse it, or put empty masks in and list them; default: %(default)s",
    )
    parser.add_argument(
        "--check", type=Path, metavar="FILE", help="write nothing; say what is wrong with a zip"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no notes")


def _what(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    parser.add_argument(
        "predictions",
        type=Path,
        metavar="PREDICTIONS",
        nargs="?" if optional else None,
        help="file or folder",
    )
    parser.add_argument("--benchmark", required=True, metavar="NAME", help="as for `refstream eval`")
    parser.add_argument("--data", type=Path, metavar="ROOT", help="its folder; default: see data/README.md")
    parser.add_argument("--split", metavar="S", help="official name; default: the benchmark's first")
