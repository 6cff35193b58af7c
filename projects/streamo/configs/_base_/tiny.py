"""The tiny model: sizes of the shared tiny parts, without a segmenter, laid over the ``paper`` preset."""

_base_ = ["../../../../configs/_base_/tiny_model.py", "./paper.py"]

_mllm = _base_.composite.mllm
_text = dict(_mllm.config.text_config, max_position_embeddings=2048)  # 40 turns and more
model = dict(
    model=dict(
        mllm=dict(
            _mllm,
            config=dict(_mllm.config, text_config=_text),
            added_tokens=["<img>", "</img>", "<IMG_CONTEXT>", *_base_.streamo.added_tokens],
            prompts=dict(_base_.streamo.prompts, system=None),
        ),
        pipeline=dict(_base_.streamo.pipeline, frame_tokens=9),  # a 6 x 6 grid, averaged to 3 x 3
    ),
    learner=dict(max_tokens=1024),  # on a CPU short rows are faster: a mask costs the square of their length
    tokenizer="minirvos_streams",
    gradient_checkpointing=False,
    autocast=None,
    frozen_dtype=None,
)
