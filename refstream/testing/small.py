"""A real model with random weights, small enough to run in milliseconds."""

from __future__ import annotations

from typing import Any

from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.modeling import RefStreamConfig, RefStreamModel
from refstream.registry import PIPELINES, import_methods

MLLM = dict(
    vision_config=dict(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=[64, 64],
        patch_size=[16, 16],
    ),
    text_config=dict(
        model_type="qwen2",
        vocab_size=1,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
    ),
    downsample_ratio=0.5,
)
SAM2 = dict(
    image_size=64,
    hidden_dim=32,
    mem_dim=16,
    trunk=dict(embed_dim=8, num_heads=1, stages=[1, 1, 2, 1], global_att_blocks=[3]),
    memory_attention=dict(layers=1, feedforward=32),
)
SAM1 = dict(
    vision_config=dict(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=64,
        output_channels=32,
        window_size=3,
        global_attn_indexes=[1],
        num_pos_feats=16,
    ),
    prompt_encoder_config=dict(hidden_size=32, image_size=64, mask_input_channels=4),
    mask_decoder_config=dict(hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=32),
)


def small_model(
    pipeline: dict[str, Any] | None = None,
    words: str = "the red circle",
    head: dict[str, Any] | None = None,
) -> RefStreamModel:
    """InternVL and SAM2 with their real classes and random weights, 64 px, in eval mode.

    The MLLM sees 4 tokens per image and takes 512 in all, of width 32; the segmenter's stride-16 map is 4 x 4
    with 32 channels.

    Args:
        pipeline: What the model's config names.
        words: The words that are tokens of their own; all others are spelt in bytes.
        head: Config of the head; None: what the pipeline asks for, see ``fitting_head``.
    """
    import_methods()
    if head is None:
        sizes = dict(image_size=64, hidden_size=32, prompt_dim=32)
        head = fitting_head((pipeline or {}).get("type"), **sizes)
    config = RefStreamConfig(
        mllm=dict(type="InternVL", config=MLLM, prompts=dict(lowercase=False)),
        segmenter=dict(type="Sam2Segmenter", config=SAM2),
        head=head,
        pipeline=pipeline or {},
    )
    return RefStreamModel(config, build_tiny_tokenizer([words])).eval()


def fitting_head(pipeline: str | None, **sizes: int) -> dict[str, Any]:
    """Config of a head that a pipeline can run, for parts of given sizes.

    A pipeline that needs a head of its own has a classmethod ``head_for`` of the same arguments.

    Args:
        pipeline: Registered name; None for any.
        sizes: ``image_size`` of the segmenter, ``hidden_size`` of the MLLM, ``prompt_dim`` of the segmenter.
    """
    kind: Any = PIPELINES.get(pipeline) if pipeline else None
    return kind.head_for(**sizes) if hasattr(kind, "head_for") else dict(type="SegTokenHead")
