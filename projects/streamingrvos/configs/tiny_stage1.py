"""StreamingRVOS on the tiny model, stage 1: referring segmentation on stills of MiniRVOS."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_model.py",
    "../../../configs/_base_/tiny_training.py",
    "./_base_/paper.py",
    "./_base_/tiny.py",
]

model = dict(model=_base_.composite, sources=[["work_dirs/tiny_align/export", "*"]], **_base_.tiny)
max_iters = 300
train_cfg = dict(max_iters=max_iters)
custom_hooks = [dict(type="ReferringProbeHook", interval=100)]
train_dataloader = dict(dataset=dict(type="MiniRVOSStills", seed=1, expressions=6, world="rich"))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=25, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=25, end=max_iters, eta_min=1e-6, by_epoch=False),
]
