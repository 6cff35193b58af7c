"""Streamo (CVPR 2026): an assistant that decides every second whether to be silent, stand by or speak."""

from .dataset import StreamoDataset
from .learner import StreamoLearner
from .losses import StateFocalLoss
from .minirvos import MiniStreamDialogues
from .pipeline import Streamo
from .stills import MiniStreamStills

__all__ = [
    "MiniStreamDialogues",
    "MiniStreamStills",
    "StateFocalLoss",
    "Streamo",
    "StreamoDataset",
    "StreamoLearner",
]
