"""What fusion, anchors and stages of VIRST are worth on MiniRVOS: python tools/ablate.py THIS_FILE.

Anchor rows differ at inference alone. Fusions are compared after stage 1, trained equally long from nothing;
stages follow one another.
CLIP-guided anchors need a CLIP folder: dict(type="clip", clip=FOLDER), which is not among the tiny parts.
"""

_base_ = ["../../../configs/_base_/minirvos_baselines.py"]

name = "minirvos_virst"
work_dir = "work_dirs/ablation_virst"
parallel = 2  # runs side by side, one thread each
benchmark = dict(name="minirvos", split="test", seed=0, num_clips=60, num_frames=24, world="rich")

_configs = "projects/virst/configs"
_trained = "work_dirs/virst"
_fusion = "model.model.head.fusion"
_stage1 = f"{_configs}/tiny_stage1.py"
_seeds = [0]
_parts = [["work_dirs/tiny_align/export", "mllm.*"], [f"{_trained}/tiny_memory_fit/export", "segmenter.*"]]
arms = dict(
    stages_123=dict(folder=f"{_trained}/tiny_stage3/export"),
    stages_12=dict(folder=f"{_trained}/tiny_stage2/export"),
    stage_2=dict(config=f"{_configs}/tiny_stage2.py", overrides={"model.sources": _parts}),
    stages_23=dict(
        config=f"{_configs}/tiny_stage3.py",
        overrides={"model.sources": [[f"{work_dir}/stage_2_0/export", "*"]]},
        after="stage_2",
    ),
    two_step=dict(config=_stage1, seeds=_seeds),
    initial_only=dict(config=_stage1, overrides={_fusion: "initial_only"}, seeds=_seeds),
    mlp=dict(config=_stage1, overrides={_fusion: "mlp"}, seeds=_seeds),
    streaming=dict(folder="work_dirs/tiny_stage2/export"),
    **_base_._baseline_arms,
)
_three = dict(max_seg_frames=3, reader=dict(frame_tokens=36, max_mllm_frames=3))  # as stage 1 is trained
_memory = dict(type="tdau", alpha=3, num_recent=6, anchors="recent")
_nearest = dict(type="tdau", alpha=3, num_recent=6, anchors="nearest")
_every = dict(type="every_k", k=8)
rows = [
    dict(name="stages 1+2+3, 3 uniform anchors", arm="stages_123", floors=True),
    dict(name="stages 1+2", arm="stages_12"),
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
    dict(name="two-step fusion, 3 frames", arm="two_step", pipeline=_three),
    dict(name="initial fusion only, 3 frames", arm="initial_only", pipeline=_three),
    dict(name="MLP for the second fusion, 3 frames", arm="mlp", pipeline=_three),
    dict(name="StreamingRVOS, every frame", arm="streaming", pipeline=dict(gate=dict(type="EveryFrameGate"))),
    *_base_._baseline_rows,
]
