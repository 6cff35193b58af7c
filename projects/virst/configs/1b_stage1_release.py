"""VIRST-1B, stage 1, as the released code would train it: its training scripts are not released."""

_base_ = ["./1b_stage1.py", "./_base_/release.py"]

work_dir = "work_dirs/virst/1b_stage1_release"
model = _base_.release
