"""Exports of the Sa2VA family (``Sa2VAChatModel``): split into MLLM, head and segmenter, and joined again.

An export holds InternVL's original keys, ``text_hidden_fcs.{0,2}`` and ``grounding_encoder.sam2_model.*``
(Meta's names, ``gamma`` written ``g_weight``). Sa2VA ships SAM 2.0 and five added tokens, StreamingRVOS'
export code SAM 2.1 and eight; both are told from the file. Training checkpoints have ``mllm.model.`` before
InternVL's keys. Pure functions: dictionaries in, dictionaries out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from refstream.checkpoints import internvl, sam2

HEAD_PREFIX = "text_hidden_fcs."
OWN_KEY = "refstream"  # entry of config.json that the projects' own code does not read
TRAINING_PREFIX = "mllm.model."
_MLLM_PREFIXES = ("vision_model.", "language_model.", "mlp1.")
_TEMPLATES = ("qwen_chat", "phi3_chat")


@dataclass(frozen=True)
class Sa2VAParts:
    """The three state dicts of an export.

    Attributes:
        mllm: Keys of transformers' ``InternVLForConditionalGeneration``.
        head: Keys of ``heads.seg_token.SegTokenHead``.
        segmenter: Meta's SAM2 names.
    """

    mllm: dict[str, Tensor]
    head: dict[str, Tensor]
    segmenter: dict[str, Tensor]

    @property
    def sam2_version(self) -> str:
        """``"2.0"`` or ``"2.1"``."""
        return sam2.sam2_version(self.segmenter)


def split(state: Mapping[str, Tensor]) -> Sa2VAParts:
    """Split an export (or a training checkpoint with all weights) into its parts.

    Raises:
        ValueError: if a part is missing, or a key belongs to none.
    """
    mllm: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, value in state.items():
        name = key.removeprefix(TRAINING_PREFIX)
        if name.startswith(_MLLM_PREFIXES):
            mllm[name] = value
        elif key.startswith(HEAD_PREFIX):
            head["layers." + key.removeprefix(HEAD_PREFIX)] = value
        elif sam2.SA2VA_PREFIX not in key:
            unknown.append(key)
    if not mllm or not head or unknown:
        raise ValueError(
            f"not the weights of a Sa2VA export: {len(mllm)} InternVL keys, {len(head)} of {HEAD_PREFIX}*, "
            f"{len(unknown)} unknown keys {unknown[:5]}; expected a Sa2VAChatModel on InternVL2.5"
        )
    return Sa2VAParts(internvl.to_native(mllm), head, sam2.strip_sa2va(state))


def join(parts: Sa2VAParts) -> dict[str, Tensor]:
    """Inverse of :func:`split`, with the keys of an export."""
    head = {HEAD_PREFIX + key.removeprefix("layers."): value for key, value in parts.head.items()}
    return {**internvl.to_original(parts.mllm), **head, **sam2.to_sa2va(parts.segmenter)}


def mllm_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of transformers' ``InternVLConfig`` from an export's ``config.json``."""
    return internvl.native_config(config)


def segmenter_config(config: Mapping[str, Any], parts: Sa2VAParts) -> dict[str, Any]:
    """``config`` of ``Sam2Segmenter``.

    SAM2's size is not written in a released ``config.json`` (it is always "large"), so the weights tell it. A
    reduced SAM2 is described by an entry ``reduced_sam2``.
    """
    version = parts.sam2_version
    if "reduced_sam2" in config:
        return {**config["reduced_sam2"], "version": version}
    size, _ = sam2.identify({key: tuple(value.shape) for key, value in parts.segmenter.items()})
    return {"size": size, "version": version}


def chat_template(config: Mapping[str, Any]) -> str:
    """Name of the chat template.

    Raises:
        ValueError: if it is not one of Qwen's models'.
    """
    template = config.get("template") or "qwen_chat"
    if template not in _TEMPLATES:
        raise ValueError(
            f"config.json names template {template!r}, expected one of {list(_TEMPLATES)}; exports with "
            "another language model (InternLM2, Qwen2.5-VL) are not supported"
        )
    return str(template)


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse what is not a Sa2VA export on InternVL.

    Raises:
        ValueError: with what was found.
    """
    kind = config.get("model_type")
    if kind != "sa2va_chat":
        raise ValueError(f"config.json is of model_type {kind!r}, expected 'sa2va_chat'")
    if "llm_config" not in config or "vision_config" not in config:
        raise ValueError(
            "config.json has no vision_config and llm_config: this Sa2VA export is not on InternVL2.5 "
            "(Qwen-VL exports are not supported yet)"
        )


def export_config(
    native: Mapping[str, Any], *, template: str = "qwen_chat", reduced_sam2: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """An export's ``config.json`` for a native InternVL configuration (``InternVLConfig.to_dict()``).

    It has no ``auto_map``: no code travels with the weights.
    """
    config = internvl.original_config(native)
    config |= {
        "architectures": ["Sa2VAChatModel"],
        "model_type": "sa2va_chat",
        "template": template,
        "hidden_size": native["text_config"]["hidden_size"],
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": 12,
        "pad2square": False,
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
    }
    return config if reduced_sam2 is None else {**config, "reduced_sam2": dict(reduced_sam2)}
