"""FSDP: parameters, gradients and the optimizer's states are divided among the processes."""

strategy = dict(
    type="FSDPStrategy",
    model_wrapper=dict(
        type="MMFullyShardedDataParallel",
        use_orig_params=True,
        auto_wrap_policy=dict(type="wrap_layers"),
    ),
    state_dict_cfg="full",
)
