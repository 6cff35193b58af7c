"""Tiny model, vision tower continued: shapes now in randomly mixed colours, the rate starts over."""

_base_ = ["./tiny_vision.py"]

max_iters = 1200
model = dict(initialise=None, sources=[("work_dirs/tiny_vision/export", "mllm.*")])
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(dataset=dict(seed=4, how="mixed"))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=50, end=max_iters, eta_min=1e-6, by_epoch=False),
]
