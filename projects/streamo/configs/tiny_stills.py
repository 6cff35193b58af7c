"""Tiny model, before Streamo: questions about single frames, as a pretrained MLLM can answer them."""

_base_ = ["./tiny.py"]

work_dir = "work_dirs/streamo/tiny_stills"
max_iters = 700
model = dict(
    sources=[["work_dirs/tiny_align/export", "mllm.*"]],
    learner=dict(loss=dict(gamma=0.0, alpha=None), initialise="words"),
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(
    batch_size=8, dataset=dict(_delete_=True, type="MiniStreamStills", split="train", seed=100)
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=75, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=75, end=max_iters, eta_min=1e-5, by_epoch=False),
]
