"""Tiny SPOT with a regression head (not the paper's): boxes and points from one state, the same losses."""

_base_ = ["./tiny.py", "./_base_/head.py"]

work_dir = "work_dirs/spot/tiny_head"
model = dict(_base_.headed, sources=[["work_dirs/spot/tiny_head_stills/export", "*"]])
