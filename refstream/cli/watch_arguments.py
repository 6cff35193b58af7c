"""The options of ``refstream watch``. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from refstream.cli.arguments import above_zero, add_device, add_limits


def add_watch(parser: argparse.ArgumentParser) -> None:
    """Options of ``refstream watch``."""
    parser.description = """\
Watch a video, a camera or a stream, and speak when there is something to say: one line per answer, with the
time, as it happens. The model decides by itself when to speak.
"""
    parser.epilog = """\
examples:
  refstream watch --video clip.mp4 --ask "tell me when the light turns green"
  refstream watch --video 0 --ask "say what comes into the room" --model pretrained/my_model     (camera 0)
  refstream watch --video clip.mp4 --ask "how many shapes are there now?" --states
  refstream watch --video clip.mp4 --ask-at 12.5 "what colour was the circle at first?"
  refstream watch --video clip.mp4 --ask "tell me when it stops" --segment "the red circle" --json e.jsonl
"""
    parser.add_argument(
        "--video",
        required=True,
        metavar="SOURCE",
        help="video file, folder of frames, picture, camera number, or rtsp:// or http:// address",
    )
    parser.add_argument(
        "--ask", action="append", default=[], metavar="TEXT", help="what to tell or answer; repeatable"
    )
    parser.add_argument(
        "--ask-at",
        action="append",
        default=[],
        nargs=2,
        metavar=("SECONDS", "TEXT"),
        help="the same, asked only when the video is there; repeatable",
    )
    parser.add_argument(
        "--segment",
        action="append",
        default=[],
        metavar="TEXT",
        help="also follow this thing by masks, written into --json; repeatable",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all events: one line of JSON each, masks as COCO RLE"
    )
    parser.add_argument("--states", action="store_true", help="show every look, also those that say nothing")
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", type=Path, metavar="FOLDER", help="one that answers in words; default: the embedded one"
    )
    group.add_argument(
        "--segment-model", type=Path, metavar="FOLDER", help="for --segment; default: the embedded one"
    )
    group.add_argument(
        "--fps", type=above_zero, metavar="R", help="looks per second; default: the model's own"
    )
    group.add_argument(
        "--respond",
        type=float,
        metavar="P",
        help="speak if the model finds it as probable as P, 0 to 1; default: the model's own rule",
    )
    group.add_argument(
        "--cool-down", type=float, metavar="S", help="after an answer, say nothing for S seconds; default 0"
    )
    add_device(group)
    add_limits(parser.add_argument_group("video"), rate="--folder-fps")
    parser.add_argument("--quiet", action="store_true", help="no notes")
