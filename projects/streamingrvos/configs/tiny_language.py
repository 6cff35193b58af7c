"""Tiny model, language model: it learns to point at what an expression means."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_model.py",
    "../../../configs/_base_/tiny_training.py",
]

max_iters = 800
model = dict(
    type="TrainingModel",
    model=_base_.composite,
    learner=dict(type="PointingLearner"),
    initialise={},
    sources=[
        ("work_dirs/tiny_vision_fine/export", "mllm.*"),
        ("work_dirs/tiny_sam2_fine/export", "segmenter.*"),
    ],
    trainable=["mllm.model.model.language_model.*", "mllm.model.lm_head.*", "head.*"],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(dataset=dict(type="MiniRVOSStills", world="plain", expressions=6))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=100, end=max_iters, eta_min=1e-5, by_epoch=False),
]
