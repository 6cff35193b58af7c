"""As ``tiny``, with plain cross-entropy."""

_base_ = "./tiny.py"

work_dir = "work_dirs/streamo/tiny_ce"
model = dict(learner=dict(loss=dict(gamma=0.0, alpha=None)))
