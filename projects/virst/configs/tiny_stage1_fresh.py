"""Tiny model, stage 1 from a fresh fusion: for comparing fusions, equally long."""

_base_ = ["./tiny_stage1.py"]

work_dir = "work_dirs/virst/tiny_stage1_fresh"
max_iters = 500
model = dict(
    sources=[
        ["work_dirs/tiny_align/export", "mllm.*"],
        ["work_dirs/virst/tiny_memory/export", "segmenter.*"],
    ],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(dataset=dict(seed=4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=50, end=max_iters, eta_min=1e-6, by_epoch=False),
]
