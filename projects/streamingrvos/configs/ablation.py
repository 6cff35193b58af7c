"""What SER and OMCP are worth on MiniRVOS: python tools/ablate.py projects/streamingrvos/configs/ablation.py.

All arms of stage 2 start from one stage 1 (``tiny_stage1.py``) and train equally long.
"""

_base_ = ["../../../configs/_base_/minirvos_baselines.py"]

name = "minirvos_streamingrvos"
work_dir = "work_dirs/ablation_streamingrvos"
parallel = 2  # runs side by side, one thread each
benchmark = dict(name="minirvos", split="test", seed=0, num_clips=60, num_frames=24, world="rich")

_stage2 = "projects/streamingrvos/configs/tiny_stage2.py"
_memory = "projects/streamingrvos/configs/tiny_stage2_memory.py"
_seeds = [0, 1, 2]
_no_ser = dict(type="NoMemory")
arms = dict(
    stage1=dict(folder="work_dirs/tiny_stage1/export"),
    no_ser=dict(config=_stage2, overrides={"model.learner.context.type": "NoMemory"}, seeds=_seeds),
    ser=dict(config=_stage2, seeds=_seeds),
    detached=dict(config=_stage2, overrides={"model.learner.truncate": 0}),
    memory_no_ser=dict(config=_memory, overrides={"model.learner.context.type": "NoMemory"}),
    memory_ser=dict(config=_memory),
    release=dict(config="projects/streamingrvos/configs/tiny_stage2_release.py"),
    **_base_._baseline_arms,
)
_every = dict(type="EveryFrameGate")
_omcp = dict(type="ConsistencyGate", tau1=0.7, tau2=0.1)
rows = [
    dict(name="stage 1 alone", arm="stage1", pipeline=dict(gate=_every, context=_no_ser)),
    dict(name="stage 2, no SER", arm="no_ser", pipeline=dict(gate=_every, context=_no_ser)),
    dict(name="stage 2, SER", arm="ser", pipeline=dict(gate=_every)),
    dict(name="SER zeroed", arm="ser", pipeline=dict(gate=_every, context=dict(type="ZeroedMemory"))),
    dict(name="SER swapped", arm="ser", pipeline=dict(type="SwappedContext", gate=_every)),
    dict(name="no SER, OMCP", arm="no_ser", pipeline=dict(gate=_omcp, context=_no_ser)),
    dict(name="SER, OMCP", arm="ser", pipeline=dict(gate=_omcp), floors=True),
    dict(name="SER, first frame only", arm="ser", pipeline=dict(gate=dict(type="FirstFrameGate"))),
    dict(name="SER, every k", arm="ser", pipeline=dict(gate=dict(type="EvenGate")), match="SER, OMCP"),
    dict(name="SER, random", arm="ser", pipeline=dict(gate=dict(type="RandomGate")), match="SER, OMCP"),
    dict(name="SER detached, OMCP", arm="detached", pipeline=dict(gate=_omcp)),
    dict(name="longer, for memory: no SER", arm="memory_no_ser", pipeline=dict(gate=_every, context=_no_ser)),
    dict(name="longer, for memory: SER", arm="memory_ser", pipeline=dict(gate=_every)),
    dict(
        name="longer, for memory: SER swapped",
        arm="memory_ser",
        pipeline=dict(type="SwappedContext", gate=_every),
    ),
    dict(name="longer, for memory: SER, OMCP", arm="memory_ser", pipeline=dict(gate=_omcp)),
    dict(name="release, every frame", arm="release", pipeline=dict(gate=_every, reprompt=False)),
    dict(name="release, OMCP", arm="release", pipeline=dict(gate=_omcp, reprompt=False)),
    *_base_._baseline_rows,
]
