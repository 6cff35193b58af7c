"""StreamingRVOS on the tiny model, stage 2 as the released code trains it."""

_base_ = ["./tiny_stage2.py", "./_base_/release.py"]

model = _base_.release
