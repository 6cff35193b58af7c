"""How the paper trains Streamo; what it leaves open is as in the released code, or assumed."""

_states = ["<Silence>", "<Standby>", "<Response>"]  # paper; the release writes them as closing tags
_core = ["[SEG]", "<p>", "</p>", "<vp>", "</vp>", "<TIME_CONTEXT>", "<context>", "</context>"]
streamo = dict(
    added_tokens=[*_core, *_states],
    prompts=dict(
        with_context=False,
        answer_tokens=_states,
        # the release has a system turn as well; the words are ours
        system=(
            "You watch a video as it is streamed, one picture after the other, and you are asked about it. "
            "After each picture decide: be silent while nothing matters to what was asked, stand by once "
            "something has begun that matters and is not over yet, and respond as soon as the answer can be "
            "given."
        ),
    ),
    pipeline=dict(type="Streamo", fps=1.0),  # paper
)
model = dict(
    type="TrainingModel",
    learner=dict(
        type="StreamoLearner",
        loss=dict(
            type="StateFocalLoss",
            gamma=2.0,  # paper
            alpha="global",  # paper: frequencies in the batch; the release counts each micro-batch alone
            classes="all",  # paper: |S| = 3; the release counts the states that occur
            detach=False,  # release
        ),
        max_tokens=32_768,  # release
        initialise="words",  # assumed; the release leaves rows that were never trained
    ),
    gradient_checkpointing=True,  # release
    autocast="bfloat16",  # release
    frozen_dtype="bfloat16",  # release
)
