"""One pass over the data: AdamW, clipped gradients, linear warm-up, cosine to zero; 512 dialogues a step."""

train_cfg = dict(type="StepTrainLoop", max_epochs=1)  # paper
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(
        type="AdamW",
        lr=1e-5,  # paper
        betas=(0.9, 0.95),  # assumed
        weight_decay=0.1,  # assumed
    ),
    clip_grad=dict(max_norm=1.0),  # assumed
    accumulative_counts=32,  # paper: 512 dialogues, here 2 x 32 on each of 8 processes
)
_warm_up = 0.05  # release: share of the epoch
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=1e-5,  # assumed
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
