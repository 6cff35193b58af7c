"""Hooks and parts that RefStream adds to mmengine's Runner; importing them registers what configs name."""

from refstream.engine.hooks.common import training_model
from refstream.engine.hooks.export import ExportHook
from refstream.engine.hooks.logging import JsonLinesHook, TensorBoardHook, TerminalHook, quiet_terminal
from refstream.engine.hooks.pictures import PictureHook
from refstream.engine.hooks.probe import ReferringProbeHook
from refstream.engine.hooks.validation import BenchmarkHook

__all__ = [
    "BenchmarkHook",
    "ExportHook",
    "JsonLinesHook",
    "PictureHook",
    "ReferringProbeHook",
    "TensorBoardHook",
    "TerminalHook",
    "quiet_terminal",
    "training_model",
]
