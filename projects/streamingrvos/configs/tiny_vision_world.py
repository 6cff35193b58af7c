"""Tiny model, vision tower on the rich world, with randomly mixed colours."""

_base_ = ["./tiny_vision.py"]

max_iters = 1000
model = dict(initialise={}, sources=[("work_dirs/tiny_plain_clips_fine/export", "*")])
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(dataset=dict(seed=8, how="mixed", world="rich"))
optim_wrapper = dict(optimizer=dict(lr=8e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=50, end=max_iters, eta_min=1e-6, by_epoch=False),
]
