"""The golden case of the public code: its arrays, and its weights under our names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from refstream_projects.virst.fusion_steps import InitialFusion, SecondFusion
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = Path(os.environ.get("REFSTREAM_GOLDEN") or ROOT / "tests" / "golden") / "virst"

# public name -> ours; the longest match counts
INITIAL = {
    "spatial_down.0": "down_sampler.convolutions.0",
    "spatial_down.2": "down_sampler.convolutions.1",
    "spatial_down.4": "down_sampler.convolutions.2",
    "spatial_norm": "down_sampler.norm",
    "vision_proj": "projection",
    "norm_q": "query_norm",
    "norm_kv": "memory_norm",
    "cross_attn": "attention",
}
SECOND = {
    "spatial_down.0": "down_sampler.convolutions.0",
    "spatial_down.2": "down_sampler.convolutions.1",
    "spatial_down.4": "down_sampler.convolutions.2",
    "memory_norm": "down_sampler.norm",
    "seg_proj": "projection",
    "decoder": "layers",
    ".cross_attn.q_proj": ".cross_attention.query",
    ".cross_attn.k_proj": ".cross_attention.key",
    ".cross_attn.v_proj": ".cross_attention.value",
    ".cross_attn.o_proj": ".cross_attention.out",
    ".self_attn": ".self_attention",
    ".ff": ".feed_forward",
    ".norm1": ".norms.0",
    ".norm2": ".norms.1",
    ".norm3": ".norms.2",
}
PREFIXES = {"initial_seg_fusion_module.": INITIAL, "seg_prompter.": SECOND}


def case() -> dict[str, Any]:
    """case.json."""
    return json.loads((GOLDEN / "case.json").read_text(encoding="utf-8"))


def arrays(name: str, folder: str) -> dict[str, Tensor]:
    """Arrays of ``<name>.npz`` below ``folder``, under their short names."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        found = {key: file[key] for key in file.files if key.startswith(f"{folder}/")}
    assert found, f"no arrays below {folder} in {name}.npz"
    return {key.removeprefix(f"{folder}/"): torch.from_numpy(value) for key, value in found.items()}


def features(data: Mapping[str, Tensor], batch_size: int = 1) -> Tensor:
    """(B, T, C, 64, 64) stride-16 maps, from their three factors."""
    maps = torch.einsum("trc,trh,trw->tchw", data["map_a"], data["map_b"], data["map_c"])
    return maps.unflatten(0, (batch_size, -1))


def our_state(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights below ``prefix`` as float32 under our names."""
    state = {}
    for key, value in weights.items():
        if key.startswith(prefix):
            name = key.removeprefix(prefix)
            for public, ours in PREFIXES[prefix].items():
                name = name.replace(public, ours)
            state[name] = value.float().reshape(1) if name == "gate" else value.float()
    assert state, f"no weights below {prefix}"
    return state


def initial_fusion(name: str, num_heads: int) -> InitialFusion:
    """The public initial fusion of ``<name>_weights.safetensors``, in eval mode."""
    state = our_state(load_file(GOLDEN / f"{name}_weights.safetensors"), "initial_seg_fusion_module.")
    token_dim, in_channels = state["down_sampler.convolutions.0.weight"].shape[:2]
    module = InitialFusion(len(state["query_norm.weight"]), in_channels, token_dim, num_heads)
    module.load_state_dict(state, strict=True)
    return module.eval()


def second_fusion(name: str, num_heads: int, num_layers: int) -> SecondFusion:
    """The public second fusion of ``<name>_weights.safetensors``, in eval mode."""
    state = our_state(load_file(GOLDEN / f"{name}_weights.safetensors"), "seg_prompter.")
    width, hidden_size = state["projection.weight"].shape
    in_channels = state["down_sampler.convolutions.0.weight"].shape[1]
    module = SecondFusion(hidden_size, width, in_channels, num_heads, num_layers)
    module.load_state_dict(state, strict=True)
    return module.eval()


def assert_near(ours: Tensor, golden: Tensor) -> None:
    """The case's tolerance for values: 2e-5 relative plus 2e-5 absolute."""
    assert ours.shape == golden.shape, f"{tuple(ours.shape)} != {tuple(golden.shape)}"
    torch.testing.assert_close(ours.detach().float(), golden.float(), rtol=2e-5, atol=2e-5)


def assert_gradient_near(ours: Tensor | None, golden: Tensor) -> None:
    """The case's tolerance for gradients: 1e-4 of the largest absolute value."""
    assert ours is not None
    assert ours.shape == golden.shape, f"{tuple(ours.shape)} != {tuple(golden.shape)}"
    torch.testing.assert_close(ours, golden, rtol=0, atol=1e-4 * float(golden.abs().max()))
