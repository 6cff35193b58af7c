"""VIRST on the tiny model, stage 2 (segment): also mask decoder and memory; clips and stills."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_training.py",
    "./_base_/tiny.py",
]

work_dir = "work_dirs/virst/tiny_stage2"
max_iters = 1200
model = dict(
    dict(_base_.stages.segment, **_base_.tiny),
    sources=[["work_dirs/virst/tiny_stage1/export", "*"]],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(
    batch_size=1,  # clips and stills differ in length
    dataset=dict(
        _delete_=True,
        type="Mixture",
        sources=[
            dict(name="clips", dataset=dict(_base_.tiny_data.clips, seed=2), weight=0.75),
            dict(
                name="stills",
                dataset=dict(type="MiniRVOSStills", seed=22, expressions=6, world="rich"),
                weight=0.25,
            ),
        ],
    ),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4), accumulative_counts=4)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=100, end=max_iters, eta_min=1e-6, by_epoch=False),
]
