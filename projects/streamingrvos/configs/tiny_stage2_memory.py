"""Stage 2 of the tiny model, longer, from the first frame on, and half of it on what needs memory."""

_base_ = ["./tiny_stage2.py"]

_clips = dict(
    type="MiniRVOSClips",
    seed=2,
    num_frames=5,
    clip_length=16,
    sampling="random_sorted",
    from_start=True,
    expressions=3,
    world="rich",
)
_memory = dict(_clips, seed=3, families=["history", "occlusion", "motion"])
max_iters = 800
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="Mixture",
        sources=[
            dict(name="all", dataset=_clips, weight=0.5),
            dict(name="memory", dataset=_memory, weight=0.5),
        ],
    )
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=25, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=25, end=max_iters, eta_min=1e-6, by_epoch=False),
]
