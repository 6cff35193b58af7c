"""VIRST-4B, stage 2, as the released code would train it: its training scripts are not released."""

_base_ = ["./4b_stage2.py", "./_base_/release.py"]

work_dir = "work_dirs/virst/4b_stage2_release"
model = dict(
    _base_.release,
    learner=dict(_base_.release.learner, supervise="anchors"),  # without its memory in stages 1 and 2
    tokenizer="work_dirs/virst/4b_stage1_release/export",
    sources=[("work_dirs/virst/4b_stage1_release/export", "*")],
)
