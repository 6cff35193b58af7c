"""How the paper trains SPOT; what it leaves open is assumed, see ``docs/methods/spot.md``."""

_tags = ["<box>", "</box>"]  # InternVL's own, where its grounding has been learned
_answers = ["[SEG]", "<p>", "</p>", "<vp>", "</vp>", *_tags]
_core = ["<img>", "</img>", "<IMG_CONTEXT>", *_answers, "<TIME_CONTEXT>", "<context>", "</context>"]
spot = dict(
    mllm=dict(added_tokens=_core, prompts=dict(with_context=False, answer_tokens=_answers)),
    pipeline=dict(
        type="SPOT",
        gate=dict(type="EveryFrameGate"),  # paper
        memory="off",  # paper
        text=dict(
            coordinates="digits",  # assumed
            style="internvl",  # assumed
            grid=5,  # paper
            rule="centres",  # assumed
        ),
        p_no=0.9,  # assumed: as SAM4MLLM's demo
        p_yes=0.75,  # assumed: likewise
        unparsable="previous",  # assumed
        multimask=True,  # assumed: as SAM4MLLM
    ),
)
model = dict(
    type="TrainingModel",
    learner=dict(
        type="SPOTLearner",
        loss=dict(
            type="SPOTLoss",
            bridge_weight=0.1,  # paper
            text_weight=0.5,  # paper
            box_weight=1.0,  # paper
            class_weight=1.0,  # paper
            beta=1 / 9,  # assumed
            class_reduction="sum",  # paper
            frame_reduction="sum",  # paper
            bridge=dict(
                form="paper",
                on="points",  # paper
                weights="variance",  # paper
                mean="endpoints",  # paper
            ),
        ),
        segment_length=8,  # paper
        centre="box",  # assumed
        grid="jitter",  # assumed
        jitter=0.1,  # assumed
    ),
    trainable=[],  # paper: LoRA on the MLLM alone
    lora=dict(
        r=128,  # assumed: as the other methods here
        alpha=256,  # assumed
        dropout=0.05,  # assumed
    ),
    token_rows="frozen",  # paper: no new modules
    gradient_checkpointing=True,  # assumed
    autocast="bfloat16",  # assumed
    frozen_dtype="bfloat16",  # assumed
)
