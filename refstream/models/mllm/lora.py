"""LoRA on the language model, over peft: injected in place, and merged into a state dict without touching it.

Source: LoRA (arXiv 2106.09685). StreamingRVOS' released code adapts every ``nn.Linear`` of the language model
but ``lm_head`` (q, k, v, o, gate, up, down) with r 128, alpha 256, dropout 0.05, no bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from refstream.models.mllm.token_rows import TokenRows

ADAPTER = "default"


def add_lora(
    mllm: Any,
    r: int = 128,
    alpha: float = 256,
    dropout: float = 0.05,
    targets: str | None = None,
) -> int:
    """Inject LoRA layers into the language model, in place; everything else in it is frozen.

    So ``train_token_rows`` comes after. The vision tower, the projector and ``lm_head`` are not touched. A
    fresh adapter changes nothing: its second matrix is zero.

    Args:
        mllm: An adapter such as ``InternVL``, with ``language_model()``.
        r: Rank.
        alpha: The update is scaled by alpha / r.
        dropout: Of the adapter's input while training, in [0, 1).
        targets: Regular expression over the names of the layers to adapt; None takes every linear layer.

    Returns:
        The number of adapted layers.

    Raises:
        ValueError: If there are adapters already, ``r`` is not positive, or no layer fits ``targets``.
    """
    language: nn.Module = mllm.language_model()
    if lora_layers(language):
        raise ValueError("the language model has LoRA layers already; save and load the model to merge them")
    if r < 1 or not 0 <= dropout < 1:
        raise ValueError(f"LoRA needs r >= 1 and dropout in [0, 1), got r {r} and dropout {dropout}")
    linear = [name for name, module in language.named_modules() if isinstance(module, nn.Linear)]
    config = LoraConfig(
        r=r,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft divides by r, any number will do
        lora_dropout=dropout,
        bias="none",
        target_modules=linear if targets is None else targets,
    )
    inject_adapter_in_model(config, language, adapter_name=ADAPTER)
    language.train(language.training)  # peft's new layers are in training mode whatever the model is in
    return len(lora_layers(language))


def lora_layers(module: nn.Module) -> dict[str, LoraLayer]:
    """The LoRA layers below ``module``, by name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLayer)}


def merged_state_dict(module: nn.Module, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The state dict as if adapters were merged and their layers gone, with the names of the bare module.

    Args:
        module: Holds LoRA layers and ``TokenRows``, or none; it is left as it is.
        state: Its state dict where that lies elsewhere (gathered from several processes); None asks the
            module.

    Returns:
        Name -> tensor, detached. A merged weight has the wider dtype of base and adapter, so that a small
        update is not rounded away into a bfloat16 base.
    """
    values = dict(module.state_dict() if state is None else state)
    for name, layer in lora_layers(module).items():
        _merge_layer(values, f"{name}." if name else "", layer)
    for name, rows in module.named_modules():
        if isinstance(rows, TokenRows):
            prefix = f"{name}." if name else ""
            fresh = values.pop(f"{prefix}rows").detach()
            weight = values.pop(f"{prefix}base.weight").detach().to(fresh.dtype, copy=True)
            weight[rows.ids.to(weight.device)] = fresh
            values[f"{prefix}weight"] = weight
    return {name: value.detach() for name, value in values.items()}


def lora_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The adapters alone, under their live names: small enough to keep many of them."""
    names = tuple(f"{name}.lora_" for name in lora_layers(module))
    return {name: value for name, value in module.state_dict().items() if name.startswith(names)}


def load_lora(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what ``lora_state_dict`` gave into the same adapters, strictly.

    Raises:
        ValueError: If names are missing, left over or of another shape; nothing is loaded then.
    """
    own = lora_state_dict(module)
    wrong = sorted(set(own) ^ set(state)) or [k for k, v in state.items() if own[k].shape != v.shape]
    if wrong:
        raise ValueError(
            f"the adapters do not fit: {len(wrong)} of {len(own)} differ in name or shape, e.g. {wrong[:3]}; "
            "add LoRA with the r and the targets that they were trained with"
        )
    for name, value in state.items():
        own[name].copy_(value)


def _merge_layer(values: dict[str, Tensor], prefix: str, layer: LoraLayer) -> None:
    """Replace a LoRA layer's entries by those of the linear layer that it stands for."""
    down = values.pop(f"{prefix}lora_A.{ADAPTER}.weight").detach()
    up = values.pop(f"{prefix}lora_B.{ADAPTER}.weight").detach()
    base = values.pop(f"{prefix}base_layer.weight").detach()
    values[f"{prefix}weight"] = base + (up.float() @ down.float()) * layer.scaling[ADAPTER]
    bias = values.pop(f"{prefix}base_layer.bias", None)
    if bias is not None:
        values[f"{prefix}bias"] = bias
