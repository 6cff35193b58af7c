"""VIRST on the tiny model, stage 1 (align): STF and LoRA, on anchors of clips."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_training.py",
    "./_base_/tiny.py",
]

work_dir = "work_dirs/virst/tiny_stage1"
max_iters = 700
model = dict(
    dict(_base_.stages.align, **_base_.tiny),
    sources=[
        ["work_dirs/virst/tiny_fusion_clips/export", "mllm.*"],
        ["work_dirs/virst/tiny_fusion_clips/export", "head.*"],
        ["work_dirs/virst/tiny_memory/export", "segmenter.*"],
    ],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(batch_size=4, dataset=_base_.tiny_data.clips)
optim_wrapper = dict(optimizer=dict(lr=6e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=25, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=25, end=max_iters, eta_min=1e-6, by_epoch=False),
]
