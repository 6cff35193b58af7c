"""VIRST-4B, stage 3, as the released code would train it: its training scripts are not released."""

_base_ = ["./4b_stage3.py", "./_base_/release.py"]

work_dir = "work_dirs/virst/4b_stage3_release"
model = dict(
    _base_.release,
    tokenizer="work_dirs/virst/4b_stage2_release/export",
    sources=[("work_dirs/virst/4b_stage2_release/export", "*")],
)
