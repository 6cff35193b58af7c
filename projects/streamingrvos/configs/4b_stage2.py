"""StreamingRVOS-4B, stage 2: clips frame by frame, with SER and the gate inside the training loop."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/schedule.py",
    "../../../configs/_base_/model_4b.py",
    "../../../configs/_base_/data_stage2.py",
    "./_base_/paper.py",
]

_gate = dict(tau1=0.8, tau2=0.2)  # paper, 4B
model = dict(
    model=dict(_base_.composite, pipeline=dict(gate=_gate)),
    tokenizer="work_dirs/4b_stage1/export",
    learner=dict(gate=_gate),
    sources=[("work_dirs/4b_stage1/export", "*")],
)
train_dataloader = dict(batch_size=1)  # release
optim_wrapper = dict(accumulative_counts=4)  # release
