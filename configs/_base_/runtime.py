"""What all training runs share."""

default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(
        type="CheckpointHook",
        interval=500,
        by_epoch=False,
        max_keep_ckpts=1,
        backend_args=dict(backend="AtomicLocalBackend"),
    ),
)
custom_hooks = [dict(type="ExportHook", interval=0), dict(type="JsonLinesHook", interval=50)]
log_processor = dict(by_epoch=False, window_size=50)
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
randomness = dict(seed=0)
env_cfg = dict(cudnn_benchmark=False)
