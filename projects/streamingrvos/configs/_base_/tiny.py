"""What the size of the tiny model asks for, laid over the ``paper`` preset."""

tiny = dict(
    # 32 x 32 logits: compared with the truth at full size and at every pixel, not at 12,544 points
    learner=dict(
        mask_loss=dict(type="FullSizeMaskLoss", num_points=0),
        templates="fixed",  # the wording of inference: it meets no other
    ),
    lora=dict(r=32, alpha=64),  # layers of 128
    gradient_checkpointing=False,
    autocast=None,
    frozen_dtype=None,
)
