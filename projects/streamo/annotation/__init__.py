"""Annotations for one's own videos: a captioner, change points and checks make records of the five tasks.

``python -m refstream_projects.streamo.annotation VIDEO_OR_FOLDER --out raw.json --captioner rules|FOLDER``
"""

from .annotate import AnnotateOptions, annotate_videos, find_videos
from .captioners import Captioner, captioner_of
from .rule_captioner import RuleCaptioner

__all__ = [
    "AnnotateOptions",
    "Captioner",
    "RuleCaptioner",
    "annotate_videos",
    "captioner_of",
    "find_videos",
]
