"""A small real model that speaks, with random weights, and streams to show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from refstream_projects.streamo.states import STATES, state_ids

from refstream.models.mllm import tokens as T
from refstream.models.mllm.chat import Turn
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.modeling import RefStreamConfig, RefStreamModel
from refstream.registry import import_methods
from refstream.streaming.session import StreamSession
from refstream.structures import Frame, StreamEvent
from refstream.testing.small import MLLM

TOKENS = ["<Silence>", "<Standby>", "<Response>"]
WORDS = "tell me when the light turns green what is here now s <0123456789.->"
ASK, OTHER = "tell me when the light turns green", "what is here now"
SHORT: dict[str, Any] = {"max_new_tokens": 5}
QUIET: dict[str, Any] = {"type": "Streamo", "policy": {"respond": 1.0}, **SHORT}  # never answers
MUTE: dict[str, Any] = {"respond": 1.0, "standby": False}
SOME: dict[str, Any] = {"policy": {"respond": 0.42}}  # answers now and then


def speaking_model(
    pipeline: dict[str, Any] | None = None, *, system: str | None = "Watch."
) -> RefStreamModel:
    """InternVL alone, 64 px, 4 tokens per image, 4096 tokens in all, in double precision."""
    import_methods()
    torch.manual_seed(0)
    text = dict(MLLM["text_config"], max_position_embeddings=4096)  # type: ignore[call-overload]
    prompts = dict(answer_tokens=TOKENS, with_context=False, lowercase=False, system=system)
    config = RefStreamConfig(
        mllm=dict(
            type="InternVL",
            config=dict(MLLM, text_config=text),
            added_tokens=[*T.IMAGE_TOKENS, *T.ADDED_TOKENS, *TOKENS],
            prompts=prompts,
            init_word_embeddings_std=1.0,
        ),
        pipeline=pipeline or {"type": "Streamo"},
    )
    model = RefStreamModel(config, build_tiny_tokenizer([WORDS])).double().eval()
    with torch.no_grad():
        model.mllm.model.lm_head.weight.mul_(10.0)  # so that decisions differ
        for name, weight in model.mllm.named_parameters():
            if weight.ndim == 2 and "embed_tokens" not in name and "lm_head" not in name:
                weight.mul_(8.0)  # and pictures count
    return model


def noise_stream(num_frames: int, fps: float = 4.0, seed: int = 0) -> list[Frame]:
    """Frames of random colours, 32 px."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (num_frames, 4, 4, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    return [Frame(i, i / fps, image) for i, image in enumerate(images)]


def stream(
    pipeline: Any, frames: Sequence[Frame], asks: Sequence[tuple[str, float | None]] = ((ASK, None),)
) -> list[StreamEvent]:
    session = StreamSession(pipeline)
    for text, time_s in asks:
        session.add(text, time_s=time_s)
    return [event for frame in frames for event in session.step(frame)] + session.close()


def said(events: Sequence[StreamEvent]) -> list[StreamEvent]:
    """Events without the clock."""
    return [replace(event, latency_ms=0.0) for event in events]


def one_shot(model: Any, turns: Sequence[tuple[str, str]], images: Sequence[np.ndarray]) -> torch.Tensor:
    """(T, 3) probabilities of the states at the start of each answer, teacher-forced in a single pass."""
    chat = model.mllm.prompts.turns([[Turn(text, answer, 1) for text, answer in turns]])
    tokens = model.mllm.encode_images(model.mllm.preprocess(images))
    with torch.no_grad():
        output = model.mllm.forward_chat(chat, tokens, with_logits=True)
    ids = torch.tensor(state_ids(model.mllm.tokenizer).all)
    places = (chat.labels[0] == chat.input_ids[0]) & torch.isin(chat.labels[0], ids)
    assert int(places.sum()) == len(turns)
    found: torch.Tensor = output.logits[0, places.nonzero()[:, 0] - 1][:, ids].float().softmax(-1)
    return found


def probabilities(events: Sequence[StreamEvent]) -> torch.Tensor:
    return torch.tensor([[event.extra["probabilities"][state] for state in STATES] for event in events])


def answer_of(event: StreamEvent) -> str:
    token = f"<{event.extra['state'].capitalize()}>"
    return f"{token} {event.text}" if event.text else token
