"""Tiny model, memory of the segmenter fitted to the decoder that also understands [SEG] prompts.

``tiny_memory`` changes the mask decoder, and boxes are all that it knows then. Here the decoder is that of
before, and stays as it is.
"""

_base_ = ["./tiny_memory.py"]

work_dir = "work_dirs/virst/tiny_memory_fit"
max_iters = 250
model = dict(
    sources=[
        ["work_dirs/tiny_align/export", "*"],
        *[["work_dirs/virst/tiny_memory/export", name] for name in _base_.memory_parts],
    ],
    trainable=_base_.memory_parts,
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(dataset=dict(seed=12))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=50, end=max_iters, eta_min=1e-6, by_epoch=False),
]
