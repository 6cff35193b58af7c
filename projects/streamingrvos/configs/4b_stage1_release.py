"""StreamingRVOS-4B, stage 1 as the released code trains it."""

_base_ = ["./4b_stage1.py", "./_base_/release.py"]

model = _base_.release
