"""Streamo (CVPR 2026): an assistant that decides every second whether to be silent, stand by or speak."""

from .dataset import StreamoDataset
from .learner import StreamoLearner
from .losses import StateFocalLoss
from .minirvos import MiniStreamDialogues
from .pipeline import Streamo

__all__ = ["MiniStreamDialogues", "StateFocalLoss", "Streamo", "StreamoDataset", "StreamoLearner"]
