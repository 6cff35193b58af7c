"""Models of real size with random weights: they prove shapes, memory and speed, and say nothing sensible."""

from __future__ import annotations

import torch

from refstream.models.mllm.sizes import SIZES, released_config
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.modeling import RefStreamConfig, RefStreamModel
from refstream.registry import foreign_pipeline

SEGMENTERS = ("tiny", "small", "base_plus", "large")
EXAMPLE = "internvl2_5-1b+sam2.1-large"


def random_model(
    sizes: str, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0
) -> RefStreamModel:
    """A composite in the layout of the released models, run by the pipeline that runs those.

    Args:
        sizes: MLLM and SAM2 with a plus between: ``internvl2_5-1b`` or ``-4b``, ``sam2-`` or ``sam2.1-`` with
            ``tiny``, ``small``, ``base_plus`` or ``large``.
        device: Where the weights are made.
        dtype: Of the weights.
        seed: Of the weights.

    Raises:
        ValueError: For a name that is not known.
    """
    mllm, _, segmenter = sizes.partition("+")
    family, _, size = segmenter.partition("-")
    if mllm not in SIZES or family not in ("sam2", "sam2.1") or size not in SEGMENTERS:
        raise ValueError(
            f"unknown sizes {sizes!r}: expected one of {sorted(SIZES)}, a plus, and sam2- or sam2.1- with "
            f"one of {SEGMENTERS}, for example {EXAMPLE}"
        )
    config = RefStreamConfig(
        mllm=dict(type="InternVL", config=released_config(mllm)),
        segmenter=dict(
            type="Sam2Segmenter", config=dict(size=size, version="2.1" if family == "sam2.1" else "2.0")
        ),
        pipeline=foreign_pipeline("sa2va_chat"),
    )
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = RefStreamModel(config, build_tiny_tokenizer(()))
    finally:
        torch.set_default_dtype(before)
    return model.to(device).eval()  # type: ignore[arg-type]
