"""How the tiny model's stages are trained, but for the learner and the data."""

train_cfg = dict(type="StepTrainLoop", max_iters=1000)
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="DrawSampler"),
    dataset=dict(type="MiniRVOSObjects", seed=0),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=100, end=1000, eta_min=1e-6, by_epoch=False),
]
