"""StreamingRVOS-1B, stage 2: clips frame by frame, with SER and the gate inside the training loop."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/schedule.py",
    "../../../configs/_base_/model_1b.py",
    "../../../configs/_base_/data_stage2.py",
    "./_base_/paper.py",
]

model = dict(
    model=_base_.composite,
    tokenizer="work_dirs/1b_stage1/export",
    sources=[("work_dirs/1b_stage1/export", "*")],
)
train_dataloader = dict(batch_size=2)  # release
optim_wrapper = dict(accumulative_counts=4)  # release
