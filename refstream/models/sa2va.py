"""Released weights of the Sa2VA family: loading them, and their own way of answering a video offline.

Source: Sa2VA (arXiv 2501.04001) and its released code: the first five frames go into one prompt, the answer
is generated freely, every ``[SEG]`` in it becomes one prompt of SAM2, given to the same five frames; the rest
of the video is tracked with SAM2's memory. Sa2VA-i reports better results with frames spread over the video.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refstream.checkpoints import sa2va as layout
from refstream.checkpoints.internvl import grow_vocabulary
from refstream.checkpoints.safe import load_state, load_strict
from refstream.checkpoints.sam2 import transformers_to_meta
from refstream.checkpoints.writing import MAX_SHARD_SIZE, save_state
from refstream.files import write_json
from refstream.models.mllm import tokens as T
from refstream.models.mllm.lora import merged_state_dict
from refstream.models.mllm.tokenizer import load_tokenizer
from refstream.models.modeling import RefStreamConfig, RefStreamModel, skip_init
from refstream.structures import ImageFeatures, SegPrompt

NUM_PROMPT_FRAMES = 5
MAX_TILES = 12


def load_sa2va(
    folder: str | Path,
    *,
    pipeline: dict[str, Any] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    compatible: bool = False,
) -> RefStreamModel:
    """Load an export of Sa2VA or StreamingRVOS (``Sa2VAChatModel`` on InternVL2.5); runs no code of it.

    The context slot is used if the vocabulary has its tokens (StreamingRVOS: yes, Sa2VA: no).

    Args:
        folder: config.json, safetensors (also sharded), tokenizer files.
        pipeline: Config of the streaming pipeline that the model names where the export names none (released
            ones never do); None for none.
        device: Where the weights go.
        dtype: Floating type of the weights in memory; position tables stay float32.
        compatible: Resize with PIL and round SAM2's constants to bfloat16, as the released code does, instead
            of resizing on the device.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If it is no such export, or keys or shapes do not fit.
    """
    folder = Path(folder)
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"no config.json in {folder}; expected the folder of a Sa2VA export")
    written = json.loads(file.read_text(encoding="utf-8"))
    layout.check_config(written)
    parts = layout.split(load_state(folder))
    tokenizer = load_tokenizer(folder)
    with_context = T.token_id(tokenizer, T.TIME_CONTEXT) is not None
    prompts = {"template": layout.chat_template(written), "with_context": with_context}
    own = written.get(layout.OWN_KEY, {})
    config = RefStreamConfig(
        mllm={
            "type": "InternVL",
            "config": layout.mllm_config(written),
            "prompts": {**own.get("prompts", {}), **prompts},
            "added_tokens": list(T.ADDED_TOKENS if with_context else T.SA2VA_TOKENS),
            "resize": "pil" if compatible else "tensor",
        },
        segmenter={
            "type": "Sam2Segmenter",
            "config": layout.segmenter_config(written, parts),
            "resize": "pil_bicubic" if compatible else "bilinear",
            "bf16_constants": compatible,
        },
        pipeline=own.get("pipeline") or pipeline,
    )
    with skip_init():
        model = RefStreamModel(config, tokenizer)
    model.to(dtype=dtype)  # type: ignore[call-arg]  # transformers wraps it in a way that mypy misreads
    vocabulary = model.mllm.config.text_config.vocab_size
    load_strict(model.mllm.model, grow_vocabulary(parts.mllm, vocabulary), f"{folder} (InternVL)")
    load_strict(model.head, parts.head, f"{folder} (text_hidden_fcs)")
    model.segmenter.load_weights(parts.segmenter, f"{folder} (SAM2)")
    model.to(device=device)  # type: ignore[call-arg]
    return model.eval()


def save_sa2va(
    model: RefStreamModel,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    state: Mapping[str, Tensor] | None = None,
    max_shard_size: int | str = MAX_SHARD_SIZE,
) -> Path:
    """Write an export that :func:`load_sa2va` reads; the keys are those of the released ones.

    Adapters are merged in what is written, and stay as they are in the live model. What the layout has no
    place for (pipeline, wording of the prompts) goes into an entry of config.json that only RefStream reads.

    Args:
        model: An InternVL on a chat template of Sa2VA with a SAM2 of a public size, or one that came from a
            reduced description (``trunk``).
        folder: Created if missing. It holds no code, so that the projects' own loaders need theirs beside it.
        dtype: Storage type of floating weights; None keeps them.
        state: The model's state dict where its weights lie elsewhere (spread over several processes).
        max_shard_size: Larger weights are cut into several files, see ``save_state``.

    Raises:
        UserError: If the model has no segmenter.
        ValueError: If SAM2's size can neither be told from its weights nor from the configuration.
    """
    model.require_segmenter()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = exported_parts(model, state)
    described = model.config.segmenter.get("config", {})
    reduced = described if "trunk" in described else None
    if reduced is None:
        layout.segmenter_config({}, parts)
    config = layout.export_config(
        model.mllm.config.to_dict(), template=model.mllm.prompts.template, reduced_sam2=reduced
    )
    config[layout.OWN_KEY] = {"prompts": model.prompt_options(), "pipeline": model.config.pipeline}
    write_json(folder / "config.json", config)
    model.mllm.tokenizer.save_pretrained(folder)
    save_state(layout.join(parts), folder, dtype=dtype, max_shard_size=max_shard_size)
    return folder


def exported_parts(model: RefStreamModel, state: Mapping[str, Tensor] | None = None) -> layout.Sa2VAParts:
    """The three state dicts of an export, adapters merged; ``state`` as in :func:`save_sa2va`."""
    merged = merged_state_dict(model, state)
    return layout.Sa2VAParts(
        mllm=_below("mllm.model.", merged),
        head=_below("head.", merged),
        segmenter=transformers_to_meta(_below("segmenter.model.", merged)),
    )


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries behind a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


@dataclass(frozen=True)
class OfflineAnswer:
    """What was said of T frames, and the masks.

    Attributes:
        text: The generated answer with special tokens.
        ids: (n,) int64 generated tokens, end token included.
        answer_hidden: (n - 1, D) final-norm hidden states at the answer's tokens.
        prompt_hidden: (D,) state of the last prompt token.
        seg_states: (N, D) those at ``[SEG]``.
        prompts: (N, C) prompt vectors.
        mask_logits: (N, T, h, w) float32 low-resolution logits, on the CPU.
        masks: (N, T, H, W) bool at the size of the frames; one object per ``[SEG]``.
    """

    text: str
    ids: Tensor
    answer_hidden: Tensor
    prompt_hidden: Tensor
    seg_states: Tensor
    prompts: Tensor
    mask_logits: Tensor
    masks: np.ndarray


class Sa2VAOffline:
    """Answers one question on a whole video, or an image, as the released ``predict_forward`` does.

    Not causal: the prompt frames are seen before the first mask. Every frame is encoded once for all objects.

    Args:
        model: From :func:`load_sa2va`, with ``compatible=True`` to reproduce released results.
        num_prompt_frames: Frames that the MLLM sees and that are prompted (5).
        prompt_frames: ``first`` (Sa2VA) or ``uniform`` over the video (Sa2VA-i).
        max_new_tokens: Longest answer (2,048 in the released code).
    """

    def __init__(
        self,
        model: RefStreamModel,
        *,
        num_prompt_frames: int = NUM_PROMPT_FRAMES,
        prompt_frames: Literal["first", "uniform"] = "first",
        max_new_tokens: int = 2048,
    ) -> None:
        if num_prompt_frames < 1:
            raise ValueError(f"num_prompt_frames must be at least 1, got {num_prompt_frames}")
        if prompt_frames not in ("first", "uniform"):
            raise ValueError(f"prompt_frames must be 'first' or 'uniform', got {prompt_frames!r}")
        self.model = model
        self.num_prompt_frames = num_prompt_frames
        self.prompt_frames = prompt_frames
        self.max_new_tokens = max_new_tokens

    @torch.no_grad()
    def video(self, frames: Sequence[np.ndarray], question: str) -> OfflineAnswer:
        """Answer on T frames, (H, W, 3) uint8 RGB of one size; the question is taken as typed."""
        chosen = self._chosen(len(frames))
        pixels = self.model.mllm.preprocess([frames[t] for t in chosen])
        return self._answer(frames, question, pixels, chosen, num_images=len(chosen), num_tiles=1)

    @torch.no_grad()
    def image(self, image: np.ndarray, question: str) -> OfflineAnswer:
        """Answer on one image, cut into up to 12 tiles and a thumbnail."""
        pixels = self.model.mllm.preprocess([image], max_tiles=MAX_TILES)
        return self._answer([image], question, pixels, [0], num_images=1, num_tiles=len(pixels))

    def _chosen(self, length: int) -> list[int]:
        """Indices of the prompt frames."""
        if length < 1:
            raise ValueError("a video needs at least one frame, got none")
        count = min(self.num_prompt_frames, length)
        if self.prompt_frames == "first":
            return list(range(count))
        return sorted(set(np.linspace(0, length - 1, count).round().astype(int).tolist()))

    def _answer(
        self,
        frames: Sequence[np.ndarray],
        question: str,
        pixels: Tensor,
        chosen: list[int],
        *,
        num_images: int,
        num_tiles: int,
    ) -> OfflineAnswer:
        sizes = {frame.shape for frame in frames}
        if len(sizes) != 1:
            raise ValueError(f"all frames of a video must have one size, got {sorted(sizes)}")
        mllm = self.model.mllm
        chat = mllm.prompts.text([[(question, None)]], num_tiles=num_tiles, num_images=num_images)
        reply = mllm.generate(
            chat.to(mllm.device), mllm.encode_images(pixels), max_new_tokens=self.max_new_tokens
        )
        states = reply.at(mllm.prompts.ids.seg)
        prompt = self.model.head(states)
        height, width = frames[0].shape[:2]
        side = self.model.segmenter.mask_size
        logits = torch.zeros(len(states), len(frames), side, side)
        masks = np.zeros((len(states), len(frames), height, width), dtype=bool)
        if len(states):
            logits = self._track(frames, prompt, chosen)
            masks = self._masks(logits, (height, width))
        return OfflineAnswer(
            text=reply.text,
            ids=reply.ids,
            answer_hidden=reply.hidden,
            prompt_hidden=reply.prompt_hidden,
            seg_states=states,
            prompts=prompt.embedding[:, 0],
            mask_logits=logits,
            masks=masks,
        )

    def _track(self, frames: Sequence[np.ndarray], prompt: SegPrompt, chosen: list[int]) -> Tensor:
        """Prompt the chosen frames, then track all others in order -> (N, T, h, w) float32 on the CPU."""
        segmenter = self.model.segmenter
        memory = segmenter.new_memory(
            {
                "type": "sam2",
                "known_num_frames": len(frames),
                "blank_absent": False,
                "max_stored_cond": len(chosen),
            }
        )
        logits: dict[int, Tensor] = {}
        others = [t for t in range(len(frames)) if t not in set(chosen)]
        for t in (*chosen, *others):
            features: ImageFeatures = segmenter.encode(segmenter.preprocess([frames[t]]))
            prompted = t in chosen
            prediction = segmenter.decode(
                features,
                prompt if prompted else None,
                memory=memory,
                frame_index=t,
                is_conditioning=prompted,
            )
            # prompted by a vector and not by clicks: the memory takes probabilities everywhere
            segmenter.remember(
                features,
                prediction,
                memory,
                frame_index=t,
                is_conditioning=prompted,
                mask_from_prompt=False,
            )
            logits[t] = prediction.mask_logits.float().cpu()
        return torch.stack([logits[t] for t in range(len(frames))], dim=1)

    def _masks(self, logits: Tensor, size: tuple[int, int]) -> np.ndarray:
        """(N, T, h, w) -> (N, T, H, W) bool; to the square input, then to the frame, as the release does."""
        side = (self.model.segmenter.image_size,) * 2
        masks = np.zeros((*logits.shape[:2], *size), dtype=bool)
        for t in range(logits.shape[1]):
            square = F.interpolate(logits[:, t, None], side, mode="bilinear", align_corners=False)
            full = F.interpolate(square, size, mode="bilinear", align_corners=False)
            masks[:, t] = (full[:, 0].sigmoid() > 0.5).numpy()
        return masks
