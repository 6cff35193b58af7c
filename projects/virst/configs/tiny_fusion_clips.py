"""Tiny model, the fusion continued on clips of three frames, as objects move between frames."""

_base_ = ["./tiny_fusion.py"]

work_dir = "work_dirs/virst/tiny_fusion_clips"
max_iters = 600
model = dict(
    sources=[
        ["work_dirs/virst/tiny_fusion/export", "mllm.*"],
        ["work_dirs/virst/tiny_fusion/export", "head.*"],
        ["work_dirs/virst/tiny_memory/export", "segmenter.*"],
    ],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(
    batch_size=8, dataset=dict(_base_.tiny_data.clips, _delete_=True, seed=5, num_frames=3)
)
optim_wrapper = dict(optimizer=dict(lr=8e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=25, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=25, end=max_iters, eta_min=1e-6, by_epoch=False),
]
