"""Tiny model, stage 4 of 4, first half: referring segmentation of single frames, end to end."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_model.py",
    "../../../configs/_base_/tiny_training.py",
]

max_iters = 1500
model = dict(
    type="TrainingModel",
    model=_base_.composite,
    learner=dict(type="StreamingRVOSLearner", text_weight=0.1, iou_weight=0.5),
    sources=[("work_dirs/tiny_language/export", "*")],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(dataset=dict(type="MiniRVOSStills", seed=1, expressions=6))
optim_wrapper = dict(optimizer=dict(lr=5e-4))
custom_hooks = [dict(type="ExportHook"), dict(type="JsonLinesHook"), dict(type="ReferringProbeHook", interval=250)]
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=50, end=max_iters, eta_min=1e-6, by_epoch=False),
]
