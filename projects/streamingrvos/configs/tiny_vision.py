"""Tiny model, vision tower: the words for what it sees, as InternViT comes prepared."""

_base_ = [
    "../../../configs/_base_/runtime.py",
    "../../../configs/_base_/tiny_model.py",
    "../../../configs/_base_/tiny_training.py",
]

max_iters = 1500
model = dict(
    type="TrainingModel",
    model=_base_.composite,
    learner=dict(type="VisualWordLearner", words=_base_.attribute_words),
    initialise={},
    trainable=["mllm.model.model.vision_tower.*", "mllm.model.model.multi_modal_projector.*"],
)
train_cfg = dict(max_iters=max_iters)
train_dataloader = dict(batch_size=32, dataset=dict(recolour=0.75))
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=100, end=max_iters, eta_min=1e-6, by_epoch=False),
]
