"""Streamo on Qwen2.5-VL-3B, as in the paper; 8 GPUs, with --deepspeed zero3."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "./_base_/schedule.py",
    "./_base_/data.py",
    "./_base_/paper.py",
]

work_dir = "work_dirs/streamo/3b_qwen"
_original = "pretrained/Qwen2.5-VL-3B-Instruct"  # paper
model = dict(
    model=dict(
        mllm=dict(
            type="QwenVL",
            config=dict(size="qwen2_5-vl-3b"),
            image_size=[224, 420],  # release: what its limits make of 16:9, 120 tokens
            added_tokens=_base_.streamo.added_tokens,
            prompts=dict(_base_.streamo.prompts, newline_after_image=False),  # release
        ),
        pipeline=_base_.streamo.pipeline,
    ),
    tokenizer=_original,
    init_from=dict(mllm=_original),
    # paper: the vision tower is frozen
    trainable=[
        "mllm.model.model.visual.merger.*",
        "mllm.model.model.language_model.*",
    ],
)
# about 140 tokens a turn: longer videos are cut
train_dataloader = dict(dataset=dict(max_turns=220, max_side=420))
