"""SPOT on InternVL2.5-1B and SAM 2.1 Hiera-L; the paper has Qwen-VL-7B-Chat and EfficientViT-SAM-XL1."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/schedule.py",
    "../../../configs/_base_/model_1b.py",
    "./_base_/data.py",
    "./_base_/paper.py",
]

work_dir = "work_dirs/spot/1b"
model = dict(
    model=dict(
        _base_.composite,
        mllm=dict(_base_.composite.mllm, **_base_.spot.mllm),
        pipeline=_base_.spot.pipeline,
    ),
    tokenizer=_base_.weights.mllm,
    init_from=_base_.weights,
)
