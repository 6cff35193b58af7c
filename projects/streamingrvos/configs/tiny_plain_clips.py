"""Tiny model, all parts together on clips of the plain world."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_model.py",
    "../../../configs/_base_/tiny_training.py",
]

max_iters = 400
model = dict(
    type="TrainingModel",
    model=_base_.composite,
    learner=dict(
        type="StreamingRVOSLearner",
        text_weight=0.1,
        iou_weight=0.5,
        mask_loss=dict(type="FullSizeMaskLoss"),
        gate=dict(type="ConsistencyGate"),
    ),
    sources=[("work_dirs/tiny_plain_fine/export", "*")],
    trainable=[
        "mllm.model.model.multi_modal_projector.*",
        "mllm.model.model.language_model.*",
        "mllm.model.lm_head.*",
        "head.*",
        "segmenter.model.mask_decoder.*",
        "segmenter.model.no_memory_embedding",
        "segmenter.model.prompt_encoder.*",
    ],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(
    batch_size=6, dataset=dict(type="MiniRVOSClips", world="plain", seed=2, num_frames=4, expressions=4)
)
optim_wrapper = dict(optimizer=dict(lr=3e-4))
custom_hooks = [dict(type="ReferringProbeHook", interval=250)]
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=50, end=max_iters, eta_min=1e-6, by_epoch=False),
]
