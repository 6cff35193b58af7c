"""StreamingRVOS-4B, stage 2 as the released code trains it."""

_base_ = ["./4b_stage2.py", "./_base_/release.py"]

model = dict(
    _base_.release,
    tokenizer="work_dirs/4b_stage1_release/export",
    sources=[("work_dirs/4b_stage1_release/export", "*")],
)
