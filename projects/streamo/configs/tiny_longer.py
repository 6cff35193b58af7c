"""The tiny model trained on, for the embedded weights."""

_base_ = ["./tiny.py"]

work_dir = "work_dirs/streamo/tiny_longer"
max_iters = 700
model = dict(sources=[["work_dirs/streamo/tiny/export", "mllm.*"]])
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(dataset=dict(seed=1))
optim_wrapper = dict(optimizer=dict(lr=8e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=25, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=25, end=max_iters, eta_min=1e-6, by_epoch=False),
]
