"""Training over mmengine's Runner: everything that knows it lies here."""

from refstream.engine import hooks, model, pretraining
from refstream.engine.train import build_runner, load_config, train

__all__ = ["build_runner", "hooks", "load_config", "model", "pretraining", "train"]
