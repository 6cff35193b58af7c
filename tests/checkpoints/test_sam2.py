"""Key maps against the key lists of the public checkpoints: nothing missing, nothing left over."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from refstream.checkpoints.sam2 import (
    VERSION_KEYS,
    identify,
    meta_to_transformers,
    sam2_version,
    strip_sa2va,
    to_sa2va,
    transformers_to_meta,
)
from refstream.models.segmenter.sam2 import Sam2Segmenter

SIZES = ("tiny", "small", "base_plus", "large")


def key_list(golden: Path, name: str) -> dict[str, Tensor]:
    """Tensors without storage, of the listed shapes."""
    content = gzip.decompress((golden / "checkpoint_keys" / f"{name}.json.gz").read_bytes())
    return {k: torch.empty(v["shape"], device="meta") for k, v in json.loads(content).items()}


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("version", ["2.0", "2.1"])
@pytest.mark.parametrize("size", SIZES)
def test_keys_are_exact(golden: Path, size: str, version: str) -> None:
    listed = key_list(golden, f"sam2{'.1' if version == '2.1' else ''}_hiera_{size}")
    assert identify(shapes(listed)) == (size, version)
    with torch.device("meta"):
        own = Sam2Segmenter.from_size(size, version).model.state_dict()
    assert shapes(meta_to_transformers(listed)) == shapes(own)
    assert shapes(transformers_to_meta(own)) == shapes(listed)


@pytest.mark.parametrize("name", ["Sa2VA-1B", "Sa2VA-4B"])
def test_sa2va_holds_sam2_large(golden: Path, name: str) -> None:
    export = key_list(golden, name)
    part = strip_sa2va(export)
    assert identify(shapes(part)) == ("large", "2.0")
    assert shapes(part) == shapes(key_list(golden, "sam2_hiera_large"))
    assert shapes(to_sa2va(part)).items() <= shapes(export).items()
    assert sum("g_weight" in key for key in to_sa2va(part)) == 2


def test_values_survive_a_round_trip() -> None:
    reduced = {
        "image_size": 64,
        "hidden_dim": 16,
        "mem_dim": 8,
        "trunk": {"embed_dim": 8, "num_heads": 1, "stages": [1, 1, 2, 1], "global_att_blocks": [3]},
        "memory_attention": {"layers": 1, "feedforward": 16},
    }
    own = Sam2Segmenter.from_reduced(reduced).model.state_dict()
    meta = transformers_to_meta(own)
    assert sam2_version(meta) == "2.1"
    back = meta_to_transformers(meta)
    assert set(back) == set(own)
    assert all(torch.equal(back[key], own[key]) for key in own)
    again = meta_to_transformers(strip_sa2va(to_sa2va(meta)))
    assert all(torch.equal(again[key], own[key]) for key in own)


def test_version_needs_all_or_none() -> None:
    assert sam2_version([]) == "2.0"
    assert sam2_version(VERSION_KEYS) == "2.1"
    with pytest.raises(ValueError, match="obj_ptr_tpos_proj"):
        sam2_version(VERSION_KEYS[:1])


def test_unknown_size_is_named(golden: Path) -> None:
    listed = shapes(key_list(golden, "sam2_hiera_tiny"))
    cut = {k: v for k, v in listed.items() if "trunk.blocks.11" not in k}
    with pytest.raises(ValueError, match=r"unknown SAM2 size.*\[1, 2, 7, 1\]"):
        identify(cut)
    with pytest.raises(ValueError, match="no SAM2 image encoder"):
        identify({"some.weight": (3, 3)})


def test_foreign_keys_are_named() -> None:
    tensor = torch.zeros(1)
    with pytest.raises(ValueError, match=r"foo\.bar"):
        meta_to_transformers({"foo.bar": tensor})
    with pytest.raises(ValueError, match=r"foo\.bar"):
        transformers_to_meta({"foo.bar": tensor})
    with pytest.raises(ValueError, match="point embeddings"):
        meta_to_transformers({"sam_prompt_encoder.point_embeddings.1.weight": torch.zeros(1, 4)})
    with pytest.raises(ValueError, match="grounding_encoder"):
        strip_sa2va({"foo.bar": tensor})
