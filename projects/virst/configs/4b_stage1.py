"""VIRST-4B, stage 1 (align): STF and LoRA, on anchors of clips; questions and answers about pictures."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/model_4b.py",
    "./_base_/schedule.py",
    "./_base_/data.py",
    "./_base_/paper.py",
]

work_dir = "work_dirs/virst/4b_stage1"
model = dict(
    _base_.stages.align,
    model=dict(_base_.composite, **_base_.virst),
    tokenizer=_base_.weights.mllm,
    init_from=_base_.weights,
)
train_dataloader = dict(
    dataset=dict(
        type="Mixture",
        sources=[*_base_.mixture.videos, *_base_.mixture.texts],  # assumed: pictures come with stage 2
    )
)
