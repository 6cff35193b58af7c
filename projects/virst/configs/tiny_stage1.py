"""VIRST on the tiny model, stage 1 (align): STF and LoRA, on clips of three anchors."""

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
        ["work_dirs/tiny_align/export", "mllm.*"],
        ["work_dirs/virst/tiny_memory_fit/export", "segmenter.*"],
    ],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(batch_size=8, dataset=dict(_base_.tiny_data.short, _delete_=True))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=50, end=max_iters, eta_min=1e-6, by_epoch=False),
]
