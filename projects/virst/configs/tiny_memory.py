"""Tiny model, memory of the segmenter: true boxes and masks on clips, as SAM2 comes prepared."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_model.py",
    "../../../configs/_base_/tiny_training.py",
    "./_base_/memory_parts.py",
]

work_dir = "work_dirs/virst/tiny_memory"
max_iters = 900
model = dict(
    type="TrainingModel",
    model=_base_.composite,
    learner=dict(type="PromptedClipLearner"),
    sources=[["work_dirs/tiny_align/export", "*"]],
    trainable=["segmenter.model.mask_decoder.*", *_base_.memory_parts],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        type="MiniRVOSClips",
        seed=11,
        num_frames=8,
        clip_length=16,
        sampling="random_sorted",
        expressions=4,
        world="rich",
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=50, end=max_iters, eta_min=1e-6, by_epoch=False),
]
