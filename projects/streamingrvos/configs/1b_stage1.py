"""StreamingRVOS-1B, stage 1: referring segmentation on images, and conversations."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/schedule.py",
    "../../../configs/_base_/model_1b.py",
    "../../../configs/_base_/data_stage1.py",
    "./_base_/paper.py",
]

model = dict(
    model=_base_.composite,
    tokenizer=_base_.weights.mllm,
    init_from=_base_.weights,
    learner=dict(max_tiles=12),  # release: images are cut into up to 12 tiles and a thumbnail
)
train_dataloader = dict(batch_size=1)  # release
optim_wrapper = dict(accumulative_counts=4)  # release
