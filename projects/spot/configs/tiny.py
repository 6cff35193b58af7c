"""Tiny SPOT on clips of MiniRVOS: boxes and points in words, with the bridge over segments of 8 frames."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_training.py",
    "./_base_/tiny.py",
]

work_dir = "work_dirs/spot/tiny"
max_iters = 1000
model = dict(
    sources=[
        ["work_dirs/tiny_align/export", "mllm.*"],
        ["work_dirs/spot/tiny_sam2/export", "segmenter.*"],
    ],
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
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=50, end=max_iters, eta_min=1e-6, by_epoch=False),
]
