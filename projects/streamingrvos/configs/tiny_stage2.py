"""StreamingRVOS on the tiny model, stage 2: clips of MiniRVOS, with SER and the gate in the training loop."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_model.py",
    "../../../configs/_base_/tiny_training.py",
    "./_base_/paper.py",
    "./_base_/tiny.py",
]

model = dict(model=_base_.composite, sources=[["work_dirs/tiny_stage1/export", "*"]], **_base_.tiny)
max_iters = 320
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(
    batch_size=6,
    dataset=dict(
        type="MiniRVOSClips",
        seed=2,
        num_frames=5,  # paper
        clip_length=16,
        sampling="random_sorted",  # release
        expressions=3,
        world="rich",
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=25, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=25, end=max_iters, eta_min=1e-6, by_epoch=False),
]
