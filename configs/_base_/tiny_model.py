"""The tiny model: same classes as the released ones, 2.3 million parameters, 128 px."""

_vision = dict(
    hidden_size=96,
    num_hidden_layers=3,
    num_attention_heads=3,
    intermediate_size=288,
    attention_bias=True,
    image_size=96,
    patch_size=8,
    layer_scale_init_value=1.0,
    initializer_range=0.08,
)
_text = dict(
    model_type="qwen2",
    vocab_size=512,
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=512,
    initializer_range=0.07,
)
_segmenter = dict(
    image_size=128,
    hidden_dim=64,
    mem_dim=16,
    trunk=dict(
        embed_dim=24,
        num_heads=1,
        stages=[1, 2, 3, 1],
        global_att_blocks=[4],
        window_spec=[8, 4, 8, 4],
        window_pos_embed_bkg_spatial_size=[8, 8],
    ),
    memory_attention=dict(layers=1, feedforward=64),
    mask_decoder=dict(mlp=256, heads=2, iou_head_hidden=64),
)
composite = dict(
    mllm=dict(type="InternVL", config=dict(vision_config=_vision, text_config=_text, downsample_ratio=0.5)),
    segmenter=dict(type="Sam2Segmenter", config=_segmenter),
    head=dict(type="SegTokenHead"),
    pipeline=dict(type="StreamingRVOS"),
)
attribute_words = [
    ["red", "green", "blue", "yellow", "purple", "orange", "cyan", "white"],
    ["circle", "square", "triangle", "star", "cross", "ring"],
    ["small", "large"],
]
