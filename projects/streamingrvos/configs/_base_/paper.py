"""How the paper trains StreamingRVOS; what it leaves open is as in the release."""

_gate = dict(type="ConsistencyGate", tau1=0.7, tau2=0.1)  # paper, 1B
model = dict(
    type="TrainingModel",
    model=dict(pipeline=dict(type="StreamingRVOS", gate=_gate)),
    learner=dict(
        type="StreamingRVOSLearner",
        mask_loss=dict(
            type="MaskLoss",
            bce_weight=1.0,  # paper
            dice_weight=1.0,  # paper
            num_points=12544,  # release
        ),
        text_weight=1.0,  # paper
        iou_weight=0.0,  # paper: the predictor of IoU belongs to the frozen segmenter
        gate=_gate,  # paper: the gate of inference, inside the training loop
        context=dict(type="SegMemory", length=1),  # release
        truncate=None,  # paper: end to end, through every [SEG] that is fed back
        reprompt=True,  # paper
        templates="released",  # release
    ),
    trainable=[
        "mllm.model.model.multi_modal_projector.*",  # release
        "head.*",  # release
    ],  # paper: all of the segmenter is frozen
    lora=dict(
        r=128,  # release
        alpha=256,  # release
        dropout=0.05,  # release
    ),
    token_rows="new",  # assumed; the release trains all rows
    gradient_checkpointing=True,  # release
    autocast="bfloat16",  # release
    frozen_dtype="bfloat16",  # release
)
