"""A captioner that is any image-text-to-text model of transformers, from a local folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from refstream.errors import UserError

from .prompts import Prompt
from .watching import evenly


class TransformersCaptioner:
    """Shows a model the frames as pictures, each after its time, then the request; decodes greedily.

    Nothing is downloaded, and no code of the folder is run; weights must be safetensors.

    Args:
        folder: With the model (an architecture that transformers has itself), its processor and a chat
        template. device: Where it runs.
        max_frames: Most frames shown at once; of more, so many are taken evenly, with the first and the last.
        max_new_tokens: Longest reply.
        dtype: Of the weights; None as they are stored.

    Attributes:
        name: The folder's name and what tells its configuration and options from others.

    Raises:
        UserError: If the folder holds no such model.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        device: str = "cpu",
        max_frames: int = 16,
        max_new_tokens: int = 128,
        dtype: torch.dtype | None = None,
    ) -> None:
        if max_frames < 2 or max_new_tokens < 1:
            raise ValueError(
                f"needs max_frames >= 2 and max_new_tokens >= 1, got {max_frames}, {max_new_tokens}"
            )
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise UserError(f"no config.json in {folder}; expected the folder of an image-text-to-text model")
        self.max_frames, self.max_new_tokens = max_frames, max_new_tokens
        self.processor, self.model = _load(folder, "auto" if dtype is None else dtype)
        self.model = self.model.to(device).eval().requires_grad_(False)
        digest = hashlib.sha256((folder / "config.json").read_bytes())
        for path in sorted(folder.glob("*.safetensors")):
            digest.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
        self.name = f"{folder.resolve().name}-{digest.hexdigest()[:12]}-{max_frames}-{max_new_tokens}"

    def messages(self, frames: np.ndarray, times: np.ndarray, prompt: Prompt) -> list[dict[str, Any]]:
        """The chat that the model is shown; see ``captioners.Captioner`` for the arguments."""
        content: list[dict[str, Any]] = []
        for k in evenly(len(frames), self.max_frames):
            content += [
                {"type": "text", "text": f"{times[k]:g} s: "},
                {"type": "image", "image": Image.fromarray(np.ascontiguousarray(frames[k]))},
            ]
        return [{"role": "user", "content": [*content, {"type": "text", "text": prompt.text}]}]

    @torch.no_grad()
    def caption(self, frames: np.ndarray, times: np.ndarray, prompt: Prompt) -> str:
        """See ``captioners.Captioner``.

        Args:
            frames: (T, H, W, 3) uint8 RGB.
            times: (T,) seconds.
            prompt: Its text is asked; its kind does not matter.
        """
        inputs = self.processor.apply_chat_template(
            self.messages(frames, times, prompt),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self.model.device, dtype=self.model.dtype)
        tokens = self.model.generate(**inputs, do_sample=False, max_new_tokens=self.max_new_tokens)
        reply = tokens[0, inputs["input_ids"].shape[1] :]
        return str(self.processor.decode(reply, skip_special_tokens=True)).strip()


def _load(folder: Path, dtype: Any) -> tuple[Any, Any]:
    """(processor, model) of a folder."""
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=dtype, output_loading_info=True
        )
        model, loading = loaded
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{folder} cannot be loaded as an image-text-to-text model of transformers ({first}); expected "
            "config.json of an architecture that transformers has itself, safetensors and a processor"
        ) from error
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise UserError(f"{folder} lacks {len(missing)} weights ({', '.join(missing[:3])}, ...)")
    if not getattr(processor, "chat_template", None):
        raise UserError(
            f"{folder} has no chat template; expected chat_template.jinja or one in its tokenizer"
        )
    generation = model.generation_config
    if generation is not None and generation.eos_token_id is None:  # else no reply would ever end
        generation.eos_token_id = processor.tokenizer.eos_token_id
    if not hasattr(processor, "image_processor"):
        raise UserError(f"{folder} holds no image processor: the model is shown pictures")
    return processor, model
