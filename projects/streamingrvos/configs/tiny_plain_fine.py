"""Tiny model, stills continued: the segmenter's image encoder learns too, masks count at full size."""

_base_ = ["./tiny_plain.py"]

max_iters = 800
model = dict(
    learner=dict(mask_loss=dict(type="FullSizeMaskLoss")),
    sources=[("work_dirs/tiny_plain/export", "*")],
    trainable=[
        "mllm.model.model.multi_modal_projector.*",
        "mllm.model.model.language_model.*",
        "mllm.model.lm_head.*",
        "head.*",
        "segmenter.*",
    ],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(dataset=dict(seed=5))
optim_wrapper = dict(optimizer=dict(lr=6e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=30, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=30, end=max_iters, eta_min=1e-6, by_epoch=False),
]
