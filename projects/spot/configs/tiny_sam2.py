"""Tiny model, segmenter: boxes with grids of judged points, which released SAM2 weights can read already."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_model.py",
    "../../../configs/_base_/tiny_training.py",
]

work_dir = "work_dirs/spot/tiny_sam2"
max_iters = 2000
model = dict(
    type="TrainingModel",
    model=_base_.composite,
    learner=dict(type="JudgedPointsLearner"),
    sources=[
        ["work_dirs/tiny_align/export", "*"],
        [
            "work_dirs/virst/tiny_memory_fit/export",
            "segmenter.*",
        ],  # the same with a memory, for the baselines
    ],
    trainable=["segmenter.model.mask_decoder.*", "segmenter.model.prompt_encoder.*"],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(dataset=dict(type="MiniRVOSStills", seed=22, expressions=6, world="rich"))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=50, end=max_iters, eta_min=1e-6, by_epoch=False),
]
