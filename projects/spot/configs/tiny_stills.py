"""Tiny model, before SPOT: both rounds on single frames, as a pretrained MLLM can hold them.

It learns boxes from their coordinates too: a pretrained MLLM has read more of them than this one ever will,
and by text alone the tiny one learns them several times more slowly. For two processes of two stills a step.
"""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_training.py",
    "./_base_/tiny.py",
]

work_dir = "work_dirs/spot/tiny_stills"
max_iters = 6000
model = dict(
    learner=dict(
        loss=dict(text_weight=1.0, box_weight=5.0, class_weight=0.0, bridge_weight=0.0),
        frames_at_once=64,
        jitter=0.3,  # boxes that it will be asked about are no better at first
    ),
    sources=[
        ["work_dirs/tiny_align/export", "mllm.*"],
        ["work_dirs/spot/tiny_sam2/export", "segmenter.*"],
    ],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(_delete_=True, type="MiniRVOSStills", seed=23, expressions=4, world="rich"),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=100, end=max_iters, eta_min=1e-5, by_epoch=False),
]
