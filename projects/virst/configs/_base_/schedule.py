"""AdamW with clipped gradients, linear warm-up, cosine to zero; the paper gives none of these numbers."""

_steps = 10_000  # assumed
_accumulation = 16  # paper
train_cfg = dict(type="StepTrainLoop", max_iters=_steps * _accumulation)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(
        type="AdamW",
        lr=1e-5,  # assumed: left over in the release's evaluation scripts
        betas=(0.9, 0.95),  # assumed
        weight_decay=0.0,  # assumed: likewise
    ),
    clip_grad=dict(max_norm=1.0),  # assumed
    accumulative_counts=_accumulation,
)
_warm_up = 300 * _accumulation  # assumed
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, begin=0, end=_warm_up, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=0.0, begin=_warm_up, end=_steps * _accumulation, by_epoch=False),
]
