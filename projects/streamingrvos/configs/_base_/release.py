"""What the released code does otherwise than the paper says; laid over a config of the ``paper`` preset."""

release = dict(
    model=dict(pipeline=dict(reprompt=False)),  # asked at inference as in training
    learner=dict(
        mask_loss=dict(bce_weight=2.0, dice_weight=0.5),
        # judges the frame before, by the predicted IoU alone, with one threshold for both sizes
        gate=dict(_delete_=True, type="LaggedConsistencyGate", tau1=0.7, tau2=0.0),
        batch_gate=True,  # by the best mask of the batch
        truncate=0,  # the fed-back [SEG] is detached
        detach_llm=False,  # True as its stage 2 is wired: no gradient reaches the language model from clips
        reprompt=False,
    ),
    trainable=[
        "mllm.model.model.multi_modal_projector.*",
        "head.*",
        "segmenter.model.mask_decoder.*",
    ],
    token_rows="all",
)
