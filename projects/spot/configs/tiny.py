"""Tiny SPOT on clips of MiniRVOS, from a model that can hold both rounds: losses and weights of the paper."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_training.py",
    "./_base_/tiny.py",
]

work_dir = "work_dirs/spot/tiny"
max_iters = 250
model = dict(
    learner=dict(frames_at_once=32, jitter=0.3),  # its boxes are off by more than a tenth
    sources=[["work_dirs/spot/tiny_stills/export", "*"]],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        _delete_=True,
        type="MiniRVOSClips",
        seed=21,
        num_frames=8,
        clip_length=24,
        sampling="contiguous",
        expressions=2,
        world="rich",
    ),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=25, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=25, end=max_iters, eta_min=1e-6, by_epoch=False),
]
