"""What XTuner 0.2.0 expects of transformers 4 and transformers 5 no longer has."""

from __future__ import annotations

import transformers.utils


def make_importable() -> None:
    """Let ``import xtuner`` work beside transformers 5, where safetensors is always there."""
    vars(transformers.utils).setdefault("is_safetensors_available", lambda: True)
