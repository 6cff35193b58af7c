"""StreamingRVOS (CVPR 2026): frame-by-frame referring video segmentation with SER and OMCP."""

from refstream.registry import register_foreign_pipeline

from .controls import SwappedContext
from .learner import StreamingRVOSLearner
from .pipeline import StreamingRVOS

__all__ = ["StreamingRVOS", "StreamingRVOSLearner", "SwappedContext"]

# Released Sa2VA / StreamingRVOS exports stream at once: same composite, same prompt.
register_foreign_pipeline("sa2va_chat", dict(type="StreamingRVOS"))
