"""DeepSpeed ZeRO-3: parameters, gradients and the optimizer's states are divided among the processes."""

strategy = dict(
    type="DeepSpeedStrategy",
    zero_optimization=dict(
        stage=3,
        overlap_comm=False,
        contiguous_gradients=True,
        stage3_gather_16bit_weights_on_model_save=True,
    ),
)
