"""DeepSpeed ZeRO-1: the optimizer's states are divided among the processes."""

strategy = dict(
    type="DeepSpeedStrategy",
    zero_optimization=dict(stage=1, overlap_comm=False),
)
