"""Where a training run's weights come from: original releases, and parts of earlier stages' folders.

Parts are taken by pattern, token rows by the token's text.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refstream.checkpoints.safe import load_state
from refstream.models.mllm.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

NEW_TOKENIZER = "minirvos"
STREAM_TOKENIZER = "minirvos_streams"
NEW_TOKENIZERS = (NEW_TOKENIZER, STREAM_TOKENIZER)


@dataclass(frozen=True)
class Taken:
    """What ``load_part`` took from a folder.

    Attributes:
        weights: Number of tensors.
        token_rows: Rows of each vocabulary matrix that were carried over; None if none was wanted.
        new_tokens: Tokens of the model that the folder's tokenizer lacks: their rows stay as they were.
        lost_tokens: Tokens of the folder that the model's tokenizer lacks: their rows are not used.
    """

    weights: int
    token_rows: int | None = None
    new_tokens: tuple[str, ...] = ()
    lost_tokens: tuple[str, ...] = ()


def missing_weights(
    init_from: Mapping[str, str] | None = None,
    sources: Sequence[tuple[str, str]] = (),
    tokenizer: str = NEW_TOKENIZER,
) -> list[str]:
    """One line per file or folder that is not there, saying where to get it; of ``TrainingModel``'s keys."""
    wanted = [*(init_from or {}).values(), *(folder for folder, _ in sources)]
    if tokenizer not in NEW_TOKENIZERS:
        wanted.append(tokenizer)
    return [f"{path} ({origin(path)})" for path in dict.fromkeys(wanted) if not Path(path).exists()]


def origin(path: str | Path) -> str:
    """Where a missing file or folder comes from."""
    path = Path(path)
    if path.name.startswith("InternVL"):
        return f"download https://huggingface.co/OpenGVLab/{path.name}"
    if path.name.startswith("sam-vit-"):
        return f"download https://huggingface.co/facebook/{path.name}"
    if path.name.startswith("sam2"):
        release = "092824" if path.name.startswith("sam2.1") else "072824"
        return f"download https://dl.fbaipublicfiles.com/segment_anything_2/{release}/{path.name}"
    if path.name == "export":
        stage = path.parent
        config = Path("projects") / stage.parent.name / "configs" / f"{stage.name}.py"
        if config.is_file():
            return f"train that stage first: python tools/train.py {config}"
        return f"train {stage.name} first: tools/train.py with the config of that name"
    return "see pretrained/README.md"


def load_original(model: Any, init_from: Mapping[str, str]) -> None:
    """Load original weights into parts of a model of their size.

    Args:
        model: A ``RefStreamModel``.
        init_from: ``mllm``: folder of an InternVL; ``segmenter``: SAM2's ``.pt``, ``.safetensors`` or folder,
            or a folder of SAM 1.

    Raises:
        ValueError: For another part, one that the model has not, or weights that do not fit.
    """
    unknown = sorted(set(init_from) - {"mllm", "segmenter"})
    if unknown:
        raise ValueError(f"init_from takes 'mllm' and 'segmenter', got {unknown}")
    if "mllm" in init_from:
        model.mllm.load_original(init_from["mllm"])
    if "segmenter" in init_from and model.segmenter is None:
        raise ValueError("init_from names weights of a segmenter, but the config's model has none")
    if "segmenter" in init_from:
        model.segmenter.load_weights(load_state(init_from["segmenter"]), init_from["segmenter"])


def load_part(model: Any, folder: str | Path, pattern: str) -> Taken:
    """Load those weights of a folder whose names match, strictly: the model must have all of them, in shape.

    Input embeddings and output head have one row per token. Where the two tokenizers differ, rows are carried
    over by the token's text; rows of tokens that the folder lacks stay as they are.

    Args:
        model: A ``RefStreamModel``.
        folder: A RefStream folder.
        pattern: Of parameter names, shell style.

    Returns:
        Counts, which are logged as well.

    Raises:
        FileNotFoundError: If weights, or the tokenizer of wanted token rows, are missing.
        ValueError: If nothing matches, or a matching name is missing in the model or of another shape there.
    """
    state = {
        name: value for name, value in load_state(Path(folder)).items() if fnmatch.fnmatch(name, pattern)
    }
    own = model.state_dict()
    rows = {name: state[name] for name in vocabulary_names(model) if name in state}
    taken = Taken(len(state))
    if rows:
        taken = _align_rows(model, folder, rows, own, len(state))
        state.update(rows)
    wrong = [name for name, value in state.items() if name not in own or own[name].shape != value.shape]
    if not state or wrong:
        raise ValueError(
            f"{folder} has {len(state)} weights named {pattern!r}; of these the model cannot take {wrong[:5]}"
        )
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)
    logger.info("took %d weights %s from %s", len(state), pattern, folder)
    if taken.new_tokens or taken.lost_tokens:
        logger.info(
            "the tokenizers differ: %s token rows carried over, %d new tokens stay as initialised %s, "
            "%d of the source are not used %s",
            *(taken.token_rows, len(taken.new_tokens), taken.new_tokens[:5]),
            *(len(taken.lost_tokens), taken.lost_tokens[:5]),
        )
    return taken


def vocabulary_names(model: Any) -> list[str]:
    """State names of the matrices with one row per token."""
    weights = {id(module.weight) for module in model.mllm.vocabulary_modules()}
    return [name for name, parameter in model.named_parameters() if id(parameter) in weights]


def _align_rows(
    model: Any, folder: str | Path, rows: dict[str, Tensor], own: Mapping[str, Tensor], count: int
) -> Taken:
    """Bring the folder's (V', D) ``rows`` into the model's order, in place, if the tokenizers differ."""
    ours: dict[str, int] = model.mllm.tokenizer.get_vocab()
    theirs: dict[str, int] = load_tokenizer(folder).get_vocab()
    if ours == theirs and all(weight.shape == own[name].shape for name, weight in rows.items()):
        return Taken(count, token_rows=len(ours))
    shared = sorted(set(ours) & set(theirs), key=lambda token: ours[token])
    to = torch.tensor([ours[token] for token in shared], dtype=torch.int64)
    source = torch.tensor([theirs[token] for token in shared], dtype=torch.int64)
    for name, weight in rows.items():
        if int(source.max()) >= len(weight):
            raise ValueError(
                f"{folder}: {name} has {len(weight)} rows, fewer than its tokenizer has tokens; the folder "
                "is not consistent: export it again"
            )
        if weight.shape[1:] == own[name].shape[1:]:
            aligned = own[name].detach().clone()
            aligned[to.to(aligned.device)] = weight[source].to(aligned)
            rows[name] = aligned
    return Taken(
        count,
        token_rows=len(shared),
        new_tokens=tuple(sorted(set(ours) - set(theirs), key=lambda token: ours[token])),
        lost_tokens=tuple(sorted(set(theirs) - set(ours), key=lambda token: theirs[token])),
    )
