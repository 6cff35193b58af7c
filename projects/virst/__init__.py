"""VIRST (CVPR 2026): spatio-temporal fusion and dynamic anchors, on whole clips and on streams."""

from .fusion import SpatioTemporalFusion
from .learner import VIRSTLearner
from .losses import VIRSTLoss
from .memory import AnchorMemory
from .pipeline import VIRST
from .pretraining import PromptedClipLearner

__all__ = [
    "VIRST",
    "AnchorMemory",
    "PromptedClipLearner",
    "SpatioTemporalFusion",
    "VIRSTLearner",
    "VIRSTLoss",
]
