"""Tiny SPOT with a regression head, before its clips: boxes, points and presence on single frames.

Points are averaged, not summed: 25 of them would drown the box, which this model has never said before.
"""

_base_ = ["./tiny_stills.py", "./_base_/head.py"]

work_dir = "work_dirs/spot/tiny_head_stills"
model = dict(
    _base_.headed,
    learner=dict(_base_.headed.learner, loss=dict(box_weight=5.0, class_weight=1.0, class_reduction="mean")),
    sources=[
        ["work_dirs/tiny_align/export", "mllm.*"],  # its [SEG] knows of places
        ["work_dirs/spot/tiny_sam2/export", "segmenter.*"],
    ],
)
