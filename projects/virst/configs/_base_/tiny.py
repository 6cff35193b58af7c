"""The tiny model: sizes of the shared tiny parts, laid over the ``paper`` preset."""

_base_ = ["../../../../configs/_base_/tiny_model.py", "./paper.py"]

_mllm = _base_.composite.mllm.config
_text = dict(_mllm.text_config, max_position_embeddings=1024)  # 8 frames of 36 tokens, and the words
_frames = 8  # that the fusions and the MLLM see, in training and after
_reader = dict(frame_tokens=36, max_mllm_frames=_frames)  # a 6 x 6 grid, not pooled
model = dict(
    model=dict(
        mllm=dict(_base_.composite.mllm, config=dict(_mllm, text_config=_text)),
        segmenter=_base_.composite.segmenter,
        head=dict(
            _base_.virst.head,
            map_size=8,  # stride 16 at 128 pixels
            num_heads=2,  # of width 32, as the released ones: narrower ones cannot tell frames apart
            token_std=1.0,  # all tokens of the tiny model have scale 1
            dropout=0.0,
        ),
        pipeline=dict(_base_.virst.pipeline, max_seg_frames=_frames, reader=_reader),
    ),
    gradient_checkpointing=False,
    autocast=None,
)
tiny = dict(frozen_dtype=None, lora=dict(r=32, alpha=64, dropout=0.0))  # layers of 128
_clips = dict(
    type="MiniRVOSClips",
    seed=1,
    num_frames=_frames,
    clip_length=24,  # that of the benchmark
    sampling="random_sorted",
    from_start=True,  # what was "at first" must be there to be told
    expressions=3,
    world="rich",
)
tiny_data = dict(
    clips=_clips,
    # three anchors, and what each of them tells by itself
    short=dict(
        _clips,
        seed=5,
        num_frames=3,
        expressions=4,
        families=["appearance", "relation"],
    ),
)
