"""As ``tiny``, with cross-entropy whose states are scaled by fixed numbers."""

_base_ = "./tiny.py"

work_dir = "work_dirs/streamo/tiny_fixed"
model = dict(learner=dict(loss=dict(gamma=0.0, alpha="fixed", scales=[0.3, 1.3, 2.0])))  # paper's ablation
