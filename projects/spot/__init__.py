"""SPOT (CVPR 2026): boxes and points from the MLLM, kept on a smooth path by losses alone."""

from .head import BoxPointHead
from .head_learner import SPOTHeadLearner
from .learner import SPOTLearner
from .losses import SPOTLoss
from .pipeline import SPOT
from .pretraining import JudgedPointsLearner

__all__ = ["SPOT", "BoxPointHead", "JudgedPointsLearner", "SPOTHeadLearner", "SPOTLearner", "SPOTLoss"]
