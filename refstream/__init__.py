"""RefStream: streaming referring video segmentation. Say what to look for, and masks stream out.

import refstream

model = refstream.load("pretrained/tiny/streamingrvos")
session = refstream.StreamSession(model.pipeline())
session.open(["the red circle"])
for frame in refstream.open_video("clip.mp4"):
    print([event.mask.sum() for event in session.step(frame)])
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Loaded on first use, so that `refstream --help` does not wait for PyTorch.
_HOMES = {
    "Frame": "refstream.structures",
    "Query": "refstream.structures",
    "SegPrompt": "refstream.structures",
    "MaskPrediction": "refstream.structures",
    "StreamEvent": "refstream.structures",
    "StreamSession": "refstream.streaming.session",
    "load": "refstream.models.loading",
    "open_video": "refstream.video",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'refstream' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
