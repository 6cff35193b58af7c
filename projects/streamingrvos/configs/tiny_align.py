"""Tiny model, all parts together on stills of the rich world: as SAM2 and InternVL come prepared.

The segmenter keeps learning boxes and points while it learns [SEG] prompts, so that the stages can freeze it.
"""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_model.py",
    "../../../configs/_base_/tiny_training.py",
]

max_iters = 1400
model = dict(
    type="TrainingModel",
    model=_base_.composite,
    learner=dict(
        type="AlternatingLearner",
        learners=[
            dict(
                type="StreamingRVOSLearner",
                text_weight=0.1,
                iou_weight=0.5,
                mask_loss=dict(type="FullSizeMaskLoss"),
            ),
            dict(type="PromptedMaskLearner"),
        ],
        shares=[0.75, 0.25],
    ),
    sources=[
        ("work_dirs/tiny_vision_world/export", "mllm.*"),
        ("work_dirs/tiny_vision_world/export", "head.*"),
        ("work_dirs/tiny_sam2_world/export", "segmenter.*"),
    ],
    trainable=[
        "mllm.model.model.multi_modal_projector.*",
        "mllm.model.model.language_model.*",
        "mllm.model.lm_head.*",
        "head.*",
        "segmenter.*",
    ],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(dataset=dict(type="MiniRVOSStills", seed=9, expressions=6, world="rich"))
optim_wrapper = dict(optimizer=dict(lr=7e-4))
custom_hooks = [dict(type="ReferringProbeHook", interval=250)]
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=50, end=max_iters, eta_min=1e-6, by_epoch=False),
]
