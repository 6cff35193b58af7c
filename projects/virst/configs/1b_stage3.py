"""VIRST-1B, stage 3 (propagate): everything learns, on anchor-based clips."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/model_1b.py",
    "./_base_/schedule.py",
    "./_base_/data.py",
    "./_base_/paper.py",
]

work_dir = "work_dirs/virst/1b_stage3"
model = dict(
    _base_.stages.propagate,
    model=dict(_base_.composite, **_base_.virst),
    tokenizer="work_dirs/virst/1b_stage2/export",
    sources=[("work_dirs/virst/1b_stage2/export", "*")],
)
train_dataloader = dict(
    dataset=dict(
        type="Mixture",
        sources=[*_base_.mixture.videos],  # paper: referring video segmentation
    )
)
