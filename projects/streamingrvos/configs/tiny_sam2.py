"""Tiny model, segmenter: points and boxes, as SAM2 comes prepared."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_model.py",
    "../../../configs/_base_/tiny_training.py",
]

max_iters = 2500
model = dict(
    type="TrainingModel",
    model=_base_.composite,
    learner=dict(type="PromptedMaskLearner"),
    initialise={},
    trainable=["segmenter.*"],
)
train_cfg = dict(max_iters=max_iters)
optim_wrapper = dict(optimizer=dict(lr=1.2e-3), clip_grad=dict(max_norm=0.5))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=100, end=max_iters, eta_min=1e-6, by_epoch=False),
]
