"""What all training runs share; hooks have names, so that a config can change or drop (None) one of them."""

default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointFolderHook", interval=500, max_keep=2),
    signals=dict(type="SignalHook"),
    export=dict(type="ExportHook", interval=0),
    lines=dict(type="JsonLinesHook", interval=50),
    terminal=dict(type="TerminalHook", interval=50),
)
log_processor = dict(by_epoch=False, window_size=50)
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
randomness = dict(seed=0)
env_cfg = dict(cudnn_benchmark=False)
