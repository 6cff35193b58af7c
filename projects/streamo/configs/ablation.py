"""What the loss of Streamo is worth on MiniRVOS streams: python tools/ablate.py THIS_FILE.

The paper's comparison: cross-entropy, fixed scales, state-aware focal loss; floors beside the last. Rows at
2 fps use models trained at 1 fps.
"""

name = "minirvos_streamo"
work_dir = "work_dirs/ablation_streamo"
parallel = 2  # runs side by side, one thread each
benchmark = dict(name="minirvos_streams", split="test", seed=0)

_configs = "projects/streamo/configs"
_seeds = [0, 1]
_loss = "model.learner.loss"
arms = dict(
    focal=dict(config=f"{_configs}/tiny.py", seeds=_seeds),
    fixed=dict(config=f"{_configs}/tiny_fixed.py", seeds=_seeds),
    cross_entropy=dict(config=f"{_configs}/tiny_ce.py", seeds=_seeds),
    focal_release=dict(
        config=f"{_configs}/tiny.py",
        overrides={f"{_loss}.alpha": "micro", f"{_loss}.classes": "present"},
    ),
    alpha_alone=dict(config=f"{_configs}/tiny.py", overrides={f"{_loss}.gamma": 0.0}),
    gamma_alone=dict(config=f"{_configs}/tiny.py", overrides={f"{_loss}.alpha": None}),
)
rows = [
    dict(name="state-aware focal loss", arm="focal", floors=True),
    dict(name="fixed scales", arm="fixed"),
    dict(name="cross-entropy", arm="cross_entropy"),
    dict(name="counted per micro-batch, present states", arm="focal_release"),
    dict(name="alpha alone", arm="alpha_alone"),
    dict(name="gamma alone", arm="gamma_alone"),
    dict(name="focal at 2 fps", arm="focal", pipeline=dict(fps=2.0)),
    dict(name="free decoding", arm="focal", pipeline=dict(constrained=False)),
]
