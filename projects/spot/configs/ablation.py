"""What the losses of SPOT are worth on MiniRVOS, beside J&F in stability: python tools/ablate.py THIS_FILE.

The last rows have no training of their own: boxes of the model that was trained on text alone, per frame and
from the first frame on, and [SEG] of a model of that kind. ``SpokenBox`` asks as SPOT does, so that it is
understood.
"""

name = "minirvos_spot"
work_dir = "work_dirs/ablation_spot"
parallel = 2  # runs side by side, one thread each
benchmark = dict(name="minirvos", split="test", seed=0, num_clips=60, num_frames=24, world="rich")

_tiny = "projects/spot/configs/tiny.py"
_loss, _frames = "model.learner.loss", "train_dataloader.dataset.num_frames"
_length = "model.learner.segment_length"
arms = dict(
    full=dict(config=_tiny, seeds=[0, 1]),
    no_bridge=dict(config=_tiny, overrides={f"{_loss}.bridge_weight": 0.0}, seeds=[0, 1]),
    no_quality=dict(config=_tiny, overrides={f"{_loss}.box_weight": 0.0, f"{_loss}.class_weight": 0.0}),
    no_text=dict(config=_tiny, overrides={f"{_loss}.text_weight": 0.0}),
    text_alone=dict(
        config=_tiny,
        overrides={
            f"{_loss}.box_weight": 0.0,
            f"{_loss}.class_weight": 0.0,
            f"{_loss}.bridge_weight": 0.0,
        },
    ),
    constant=dict(config=_tiny, overrides={f"{_loss}.bridge.weights": "constant"}),
    joint=dict(config=_tiny, overrides={f"{_loss}.bridge.form": "joint"}),
    joint_centred=dict(
        config=_tiny,
        overrides={f"{_loss}.bridge.form": "joint", f"{_loss}.bridge.on": "points_centred"},
    ),
    centred=dict(config=_tiny, overrides={f"{_loss}.bridge.on": "points_centred"}),
    segments_4=dict(config=_tiny, overrides={_frames: 4, _length: 4, "train_dataloader.batch_size": 4}),
    segments_16=dict(config=_tiny, overrides={_frames: 16, _length: 16, "train_dataloader.batch_size": 1}),
    bridge_001=dict(config=_tiny, overrides={f"{_loss}.bridge_weight": 0.01}),
    bridge_1=dict(config=_tiny, overrides={f"{_loss}.bridge_weight": 1.0}),
    streaming=dict(folder="work_dirs/tiny_stage2/export"),
    tracking=dict(folder="work_dirs/virst/tiny_memory_fit/export"),  # [SEG], and a memory that was trained
)
_first = dict(type="FirstFrameGate")
_asked = dict(
    type="SpokenBox",
    question='Where is "{expression}"? Give the box of each, or say that there is none.',
)
rows = [
    dict(name="SPOT", arm="full", floors=True),
    dict(name="without the bridge", arm="no_bridge"),
    dict(name="without quality", arm="no_quality"),
    dict(name="without text", arm="no_text"),
    dict(name="constant weights", arm="constant"),
    dict(name="joint form", arm="joint"),
    dict(name="joint form on centres", arm="joint_centred"),
    dict(name="bridge on centres", arm="centred"),
    dict(name="T_s 4", arm="segments_4"),
    dict(name="T_s 16", arm="segments_16"),
    dict(name="lambda_bb 0.01", arm="bridge_001"),
    dict(name="lambda_bb 1", arm="bridge_1"),
    dict(name="SPOT, boxes alone", arm="full", pipeline=dict(points=False)),
    dict(name="SPOT, every 4th frame", arm="full", pipeline=dict(gate=dict(type="EveryKGate", k=4))),
    dict(name="text alone, two rounds", arm="text_alone"),
    dict(name="spoken box, every frame", arm="text_alone", pipeline=_asked),
    dict(
        name="spoken box, first frame, then memory",
        arm="text_alone",
        pipeline=dict(_asked, gate=_first, memory="on"),
    ),
    dict(
        name="[SEG] of 5 frames, then memory",
        arm="tracking",
        pipeline=dict(type="SegPropagation", looks=5),
    ),
    dict(name="StreamingRVOS, every frame", arm="streaming", pipeline=dict(gate=dict(type="EveryFrameGate"))),
]
