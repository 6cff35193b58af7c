"""Streamo on InternVL2.5-4B, whose parts the other methods share; 8 GPUs."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "./_base_/schedule.py",
    "./_base_/data.py",
    "./_base_/paper.py",
]

work_dir = "work_dirs/streamo/4b"
_original = "pretrained/InternVL2_5-4B"  # paper: other MLLMs than Qwen2.5-VL
model = dict(
    model=dict(
        mllm=dict(
            type="InternVL",
            config=dict(size="internvl2_5-4b"),
            added_tokens=["<img>", "</img>", "<IMG_CONTEXT>", *_base_.streamo.added_tokens],
            prompts=_base_.streamo.prompts,
        ),
        pipeline=dict(_base_.streamo.pipeline, frame_tokens=256),  # release: one tile of 448 pixels
    ),
    tokenizer=_original,
    init_from=dict(mllm=_original),
    # paper: the vision tower is frozen
    trainable=[
        "mllm.model.model.multi_modal_projector.*",
        "mllm.model.model.language_model.*",
        "mllm.model.lm_head.*",
    ],
)
# about 285 tokens a turn: longer videos are cut
train_dataloader = dict(dataset=dict(max_turns=112, max_side=448))
