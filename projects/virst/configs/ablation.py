"""What fusion, anchors and stages of VIRST are worth on MiniRVOS: python tools/ablate.py THIS_FILE.

Anchor rows differ at inference alone. Fusions are trained equally long from nothing, stages from one another.
CLIP-guided anchors need a CLIP folder: dict(type="clip", clip=FOLDER), which is not among the tiny parts.
"""

name = "minirvos_virst"
work_dir = "work_dirs/ablation_virst"
parallel = 2  # runs side by side, one thread each
benchmark = dict(name="minirvos", split="test", seed=0, num_clips=60, num_frames=24, world="rich")

_configs = "projects/virst/configs"
_trained = "work_dirs/virst"
_fusion = "model.model.head.fusion"
_fresh = f"{_configs}/tiny_stage1_fresh.py"
_parts = [["work_dirs/tiny_align/export", "mllm.*"], [f"{_trained}/tiny_memory/export", "segmenter.*"]]
arms = dict(
    stages_123=dict(folder=f"{_trained}/tiny_stage3/export"),
    stages_12=dict(folder=f"{_trained}/tiny_stage2/export"),
    stage_1=dict(folder=f"{_trained}/tiny_stage1/export"),
    stage_2=dict(config=f"{_configs}/tiny_stage2.py", overrides={"model.sources": _parts}),
    stages_23=dict(
        config=f"{_configs}/tiny_stage3.py",
        overrides={"model.sources": [[f"{work_dir}/stage_2_0/export", "*"]]},
        after="stage_2",
    ),
    two_step=dict(config=_fresh),
    initial_only=dict(config=_fresh, overrides={_fusion: "initial_only"}),
    second_only=dict(config=_fresh, overrides={_fusion: "second_only"}),
    mlp=dict(config=_fresh, overrides={_fusion: "mlp"}),
    streaming=dict(folder="work_dirs/tiny_stage2/export"),
)
_memory = dict(type="tdau", alpha=3, num_recent=6, anchors="recent")
_nearest = dict(type="tdau", alpha=3, num_recent=6, anchors="nearest")
_every = dict(type="every_k", k=8)
rows = [
    dict(name="stages 1+2+3, 3 uniform anchors", arm="stages_123", floors=True),
    dict(name="stages 1+2", arm="stages_12"),
    dict(name="stage 1", arm="stage_1"),
    dict(name="stages 2+3", arm="stages_23"),
    dict(
        name="1 anchor",
        arm="stages_123",
        pipeline=dict(anchors=dict(type="uniform", alpha=1), memory=dict(_memory, alpha=1)),
    ),
    dict(
        name="8 anchors",
        arm="stages_123",
        pipeline=dict(anchors=dict(type="uniform", alpha=8), memory=dict(_memory, alpha=8)),
    ),
    dict(name="first frame", arm="stages_123", pipeline=dict(anchors=dict(type="first_frame"))),
    dict(
        name="anchors first, nearest",
        arm="stages_123",
        pipeline=dict(order="anchors_first", memory=_nearest),
    ),
    dict(name="online, every 8", arm="stages_123", pipeline=dict(online=True, anchors=_every)),
    dict(
        name="online, by score",
        arm="stages_123",
        pipeline=dict(online=True, anchors=dict(type="score", every=8)),
    ),
    dict(name="two-step fusion", arm="two_step"),
    dict(name="initial fusion only", arm="initial_only"),
    dict(name="second fusion only", arm="second_only"),
    dict(name="MLP for the second fusion", arm="mlp"),
    dict(name="StreamingRVOS, every frame", arm="streaming", pipeline=dict(gate=dict(type="EveryFrameGate"))),
]
