"""VIRST-1B, stage 2 (segment): also mask decoder and memory modules; pictures as well."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/model_1b.py",
    "./_base_/schedule.py",
    "./_base_/data.py",
    "./_base_/paper.py",
]

work_dir = "work_dirs/virst/1b_stage2"
model = dict(
    _base_.stages.segment,
    model=dict(_base_.composite, **_base_.virst),
    tokenizer="work_dirs/virst/1b_stage1/export",
    sources=[("work_dirs/virst/1b_stage1/export", "*")],
)
train_dataloader = dict(
    dataset=dict(
        type="Mixture",
        sources=[
            *_base_.mixture.videos,
            *_base_.mixture.images,
            *_base_.mixture.texts,
        ],  # paper: image-level data as well
    )
)
