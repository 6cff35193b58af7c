"""StreamingRVOS-4B, stage 1: referring segmentation on images, and conversations."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/schedule.py",
    "../../../configs/_base_/model_4b.py",
    "../../../configs/_base_/data_stage1.py",
    "./_base_/paper.py",
]

_gate = dict(tau1=0.8, tau2=0.2)  # paper, 4B
model = dict(
    model=dict(_base_.composite, pipeline=dict(gate=_gate)),
    tokenizer=_base_.weights.mllm,
    init_from=_base_.weights,
    learner=dict(gate=_gate, max_tiles=12),  # release: images are cut into up to 12 tiles and a thumbnail
)
train_dataloader = dict(batch_size=2)  # release
optim_wrapper = dict(accumulative_counts=4)  # release
