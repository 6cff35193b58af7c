"""VIRST on the tiny model, stage 3 (propagate): everything learns, on anchor-based clips."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_training.py",
    "./_base_/tiny.py",
]

work_dir = "work_dirs/virst/tiny_stage3"
max_iters = 300
model = dict(_base_.stages.propagate, sources=[["work_dirs/virst/tiny_stage2/export", "*"]])
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(batch_size=4, dataset=dict(_base_.tiny_data.clips, seed=3))
optim_wrapper = dict(optimizer=dict(lr=3e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=25, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=25, end=max_iters, eta_min=1e-6, by_epoch=False),
]
