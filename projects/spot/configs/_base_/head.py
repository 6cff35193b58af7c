"""A head in the place of words (not the paper's): keys to lay over a tiny model of this method."""

headed = dict(
    model=dict(
        head=dict(_delete_=True, type="BoxPointHead", points=25, width=128, heads=4),  # paper: a 5 x 5 grid
        pipeline=dict(reader="head"),
    ),
    learner=dict(type="SPOTHeadLearner"),
    trainable=[
        "head.*",
        "mllm.model.model.multi_modal_projector.*",
        "mllm.model.model.language_model.*",
        "mllm.model.lm_head.*",
    ],
)
