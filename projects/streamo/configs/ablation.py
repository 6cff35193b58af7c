"""What the loss of Streamo is worth on MiniRVOS streams: python tools/ablate.py THIS_FILE.

The paper's comparison: cross-entropy, fixed scales, state-aware focal loss; floors beside the last. Rows at
2 fps use models trained at 1 fps.
"""

name = "minirvos_streamo"
work_dir = "work_dirs/ablation_streamo"
parallel = 2  # runs side by side, one thread each
benchmark = dict(name="minirvos_streams", split="test", seed=0, num_streams=40)
columns = [
    "f1",
    "precision",
    "recall",
    "text_accuracy",
    "narration",
    "event_caption",
    "action_caption",
    "event_grounding",
    "time_sensitive_qa",
    *(f"{state}_recall" for state in ("silence", "standby", "response")),
    "early",
    "late",
    "missed",
    "delay_p50_s",
]

_configs = "projects/streamo/configs"
_seeds = [0]
_loss = "model.learner.loss"
arms = dict(
    focal=dict(config=f"{_configs}/tiny.py", seeds=_seeds),
    fixed=dict(config=f"{_configs}/tiny_fixed.py", seeds=_seeds),
    longer=dict(folder="work_dirs/streamo/tiny_longer/export"),
    cross_entropy=dict(config=f"{_configs}/tiny_ce.py", seeds=_seeds),
)
rows = [
    dict(name="state-aware focal loss", arm="focal", floors=True),
    dict(name="trained on, 700 iterations", arm="longer", floors=True),
    dict(name="fixed scales", arm="fixed"),
    dict(name="cross-entropy", arm="cross_entropy"),
    dict(name="focal at 2 fps", arm="focal", pipeline=dict(fps=2.0)),
    dict(name="free decoding", arm="focal", pipeline=dict(constrained=False)),
]
