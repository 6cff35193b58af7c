"""What the losses of SPOT are worth on MiniRVOS, beside J&F in stability: python tools/ablate.py THIS_FILE.

All arms start from one model that can hold both rounds (``tiny_stills.py``) and train equally long. The class
loss is summed over 25 points (paper), which leaves the box and the bridge little weight: the arms "mean" take
its mean instead.
"""

_base_ = ["../../../configs/_base_/minirvos_baselines.py"]

name = "minirvos_spot"
work_dir = "work_dirs/ablation_spot"
parallel = 2  # runs side by side, one thread each
benchmark = dict(name="minirvos", split="test", seed=0, num_clips=60, num_frames=24, world="rich")
stability = ["jitter_error", "compensated_iou", "prompt_jerk", "gt_prompt_jerk"]

_tiny = "projects/spot/configs/tiny.py"
_loss, _frames = "model.learner.loss", "train_dataloader.dataset.num_frames"
_bridge, _length = f"{_loss}.bridge_weight", "model.learner.segment_length"
_mean = {f"{_loss}.class_reduction": "mean"}
_joint = {f"{_loss}.bridge.form": "joint", f"{_loss}.bridge.on": "points_centred"}
_no_quality = {f"{_loss}.box_weight": 0.0, f"{_loss}.class_weight": 0.0}
_seeds = [0, 1, 2]
arms = dict(
    full=dict(config=_tiny, seeds=_seeds),
    no_bridge=dict(config=_tiny, overrides={_bridge: 0.0}, seeds=_seeds),
    no_quality=dict(config=_tiny, overrides=_no_quality),
    no_text=dict(config=_tiny, overrides={f"{_loss}.text_weight": 0.0}),
    text_alone=dict(config=_tiny, overrides={**_no_quality, _bridge: 0.0}),
    constant=dict(config=_tiny, overrides={f"{_loss}.bridge.weights": "constant"}),
    joint=dict(config=_tiny, overrides={f"{_loss}.bridge.form": "joint"}),
    centred=dict(config=_tiny, overrides={f"{_loss}.bridge.on": "points_centred"}),
    segments_4=dict(config=_tiny, overrides={_frames: 4, _length: 4, "train_dataloader.batch_size": 4}),
    segments_16=dict(config=_tiny, overrides={_frames: 16, _length: 16, "train_dataloader.batch_size": 1}),
    bridge_001=dict(config=_tiny, overrides={_bridge: 0.01}),
    bridge_1=dict(config=_tiny, overrides={_bridge: 1.0}),
    mean=dict(config=_tiny, overrides=_mean, seeds=_seeds),
    mean_no_bridge=dict(config=_tiny, overrides={**_mean, _bridge: 0.0}, seeds=_seeds),
    mean_bridge_1=dict(config=_tiny, overrides={**_mean, _bridge: 1.0}),
    mean_joint_1=dict(config=_tiny, overrides={**_mean, **_joint, _bridge: 1.0}),
    first=dict(folder=f"{work_dir}/full_0/export"),
    streaming=dict(folder="work_dirs/tiny_stage2/export"),
    **_base_._baseline_arms,
)
rows = [
    dict(name="SPOT", arm="full", floors=True),
    dict(name="without the bridge", arm="no_bridge"),
    dict(name="without quality", arm="no_quality"),
    dict(name="without text", arm="no_text"),
    dict(name="text alone", arm="text_alone"),
    dict(name="constant weights", arm="constant"),
    dict(name="joint form", arm="joint"),
    dict(name="bridge on the points' mean", arm="centred"),
    dict(name="T_s 4", arm="segments_4"),
    dict(name="T_s 16", arm="segments_16"),
    dict(name="lambda_bb 0.01", arm="bridge_001"),
    dict(name="lambda_bb 1", arm="bridge_1"),
    dict(name="mean of points", arm="mean"),
    dict(name="mean of points, without the bridge", arm="mean_no_bridge"),
    dict(name="mean of points, lambda_bb 1", arm="mean_bridge_1"),
    dict(name="mean of points, joint form on their mean, lambda_bb 1", arm="mean_joint_1"),
    dict(name="SPOT, boxes alone", arm="first", pipeline=dict(points=False)),
    dict(name="SPOT, every 4th frame", arm="first", pipeline=dict(gate=dict(type="EveryKGate", k=4))),
    dict(
        name="SPOT, first frame, then memory",
        arm="first",
        pipeline=dict(gate=dict(type="FirstFrameGate"), memory="on"),
    ),
    dict(name="both rounds before SPOT", arm="says_boxes"),
    *_base_._baseline_rows,
    dict(name="StreamingRVOS, every frame", arm="streaming", pipeline=dict(gate=dict(type="EveryFrameGate"))),
]
