"""Tiny Streamo on MiniRVOS streams at one turn per second, with the state-aware focal loss."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_training.py",
    "./_base_/tiny.py",
]

work_dir = "work_dirs/streamo/tiny"
max_iters = 500
model = dict(
    sources=[["work_dirs/streamo/tiny_stills/export", "mllm.*"]],
    learner=dict(initialise=None),  # the states have been learned on single frames
    trainable=[
        "mllm.model.model.multi_modal_projector.*",
        "mllm.model.model.language_model.*",
        "mllm.model.lm_head.*",
    ],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(_delete_=True, type="MiniStreamDialogues", split="train", seed=0, duration_s=20.0, fps=1.0),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=75, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=75, end=max_iters, eta_min=1e-6, by_epoch=False),
]
