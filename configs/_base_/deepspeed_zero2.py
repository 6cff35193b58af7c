"""DeepSpeed ZeRO-2: the optimizer's states and the gradients are divided among the processes."""

strategy = dict(
    type="DeepSpeedStrategy",
    zero_optimization=dict(stage=2, overlap_comm=False, contiguous_gradients=True),
)
