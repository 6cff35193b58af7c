"""How the paper trains VIRST; what it leaves open is as in the released code, or assumed.

A stage is ``model=dict(**_base_.stages.NAME)``; a narrower stage 3 is ``**_base_.scopes.NAME`` in its place.
"""

_base_ = ["./memory_parts.py"]

_reader = dict(
    frame_tokens=16,  # release: 16 vision tokens per frame; InternVL2.5's 256 are averaged to 16
    max_mllm_frames=16,  # assumed
)
_memory = dict(
    type="tdau",
    alpha=3,  # paper
    num_recent=6,  # paper
    anchors="recent",  # paper, and causal
)
virst = dict(
    head=dict(
        type="SpatioTemporalFusion",
        num_tokens=10,  # paper
        fusion="two_step",  # paper
        map_size=64,  # stride 16 at 1024 pixels
        grid=8,  # release
        num_heads=8,  # release
        num_layers=2,  # release
        dropout=0.1,  # release
    ),
    pipeline=dict(
        type="VIRST",
        anchors=dict(type="uniform", alpha=3),  # paper
        memory=_memory,
        order="time",  # assumed; the paper's most recent anchors need it
        multimask=True,  # release
        max_seg_frames=32,  # release
        reader=_reader,
    ),
)
model = dict(
    type="TrainingModel",
    learner=dict(
        type="VIRSTLearner",
        loss=dict(
            type="VIRSTLoss",
            bce_weight=1.0,  # paper
            dice_weight=1.0,  # paper
            token_weight=1.0,  # paper
            occlusion_weight=0.05,  # paper
            iou_weight=0.05,  # paper
            absent="keep",  # the release blanks masks of absent objects, which then learn nothing
        ),
        anchors=dict(type="random", count=3),  # release: 3 anchors of a training clip are drawn
        memory=dict(
            _memory,
            blank_absent=False,  # a mask that is wrongly taken for absent keeps its gradient
            map_dtype=None,  # as computed, so that gradients are not rounded
        ),
        order="time",  # that of inference
        num_before=2,  # release
        num_after=5,  # release
        clip_times=True,  # that of inference
        multimask=True,  # that of inference
    ),
    token_rows="frozen",  # assumed: [ST] are parameters of their own
    gradient_checkpointing=True,  # assumed
    autocast="bfloat16",  # paper
)

_lora = dict(
    r=64,  # release
    alpha=16,  # release
    dropout=0.05,  # release
)  # on every linear layer of the language model
_decoder = ["segmenter.model.mask_decoder.*"]
stages = dict(
    align=dict(
        trainable=["head.*"],  # paper: STF and LoRA
        lora=_lora,
        frozen_dtype="bfloat16",
        learner=dict(supervise="anchors"),  # assumed: anchors alone, as the released code can
    ),
    segment=dict(
        trainable=["head.*", *_decoder, *_base_.memory_parts],  # paper
        lora=_lora,
        frozen_dtype="bfloat16",
        # assumed: what trains the memory must use it; a still is a clip of one anchor
        learner=dict(supervise="clip"),
    ),
    propagate=dict(
        trainable=["*"],  # paper: everything unfrozen
        token_rows=None,
        learner=dict(supervise="clip"),  # paper: anchor-based clips
    ),
)
scopes = dict(
    all=stages["propagate"],
    # the two image encoders stay as they are
    encoders_frozen=dict(
        trainable=[
            "head.*",
            "mllm.model.model.language_model.*",
            "mllm.model.model.multi_modal_projector.*",
            "mllm.model.lm_head.*",
            *_decoder,
            *_base_.memory_parts,
        ],
        token_rows=None,
        frozen_dtype="bfloat16",
        learner=dict(supervise="clip"),
    ),
    stage2=dict(stages["segment"]),  # the groups of stage 2, on anchor-based clips
)
