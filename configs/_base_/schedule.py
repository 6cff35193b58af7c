"""One pass over the data: AdamW, clipped gradients, linear warm-up, cosine to zero."""

train_cfg = dict(type="StepTrainLoop", max_epochs=1)  # release
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(
        type="AdamW",
        lr=4e-5,  # paper
        betas=(0.9, 0.999),  # release
        weight_decay=0.05,  # release
    ),
    clip_grad=dict(max_norm=1.0),  # release
    accumulative_counts=4,  # release
)
_warm_up = 0.05  # release: share of the epoch
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=1e-5,  # release
        begin=0,
        end=_warm_up,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",
        eta_min=0.0,  # release
        begin=_warm_up,
        end=1,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
