"""RefStream's registries, children of mmengine's: a class registered here is built from a config
by ``type=``.

Methods under ``projects/`` register themselves when imported. Which ones exist is found by entry point
(group ``refstream.methods``), so nothing here lists them.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from mmengine.registry import DATASETS as MM_DATASETS
from mmengine.registry import HOOKS as MM_HOOKS
from mmengine.registry import METRICS as MM_METRICS
from mmengine.registry import MODELS as MM_MODELS
from mmengine.registry import TRANSFORMS as MM_TRANSFORMS
from mmengine.registry import Registry

SCOPE = "refstream"
ENTRY_POINT_GROUP = "refstream.methods"

MODELS = Registry(
    "model",
    parent=MM_MODELS,
    scope=SCOPE,
    locations=[
        "refstream.models.mllm.internvl",
        "refstream.models.segmenter.sam1",
        "refstream.models.segmenter.sam2",
    ],
)
HEADS = Registry("head", scope=SCOPE, locations=["refstream.models.heads.seg_token"])
LOSSES = Registry("loss", scope=SCOPE, locations=["refstream.models.losses.mask"])
GATES = Registry("gate", scope=SCOPE, locations=["refstream.streaming.gates"])
CONTEXTS = Registry("context", scope=SCOPE)  # what the MLLM is told of the past of a query
PIPELINES = Registry("pipeline", scope=SCOPE, locations=["refstream.streaming.baselines"])
LEARNERS = Registry("learner", scope=SCOPE)
DATASETS = Registry(
    "dataset",
    parent=MM_DATASETS,
    scope=SCOPE,
    locations=["refstream.data.datasets", "refstream.data.mixture"],
)
TRANSFORMS = Registry("transform", parent=MM_TRANSFORMS, scope=SCOPE, locations=["refstream.data.transforms"])
METRICS = Registry("metric", parent=MM_METRICS, scope=SCOPE)
HOOKS = Registry("hook", parent=MM_HOOKS, scope=SCOPE, locations=["refstream.engine.hooks"])

_FOREIGN_PIPELINES: dict[str, dict[str, Any]] = {}


def register_foreign_pipeline(model_type: str, pipeline: dict[str, Any]) -> None:
    """Declare which pipeline runs weights of another project's ``model_type`` (called on import)."""
    _FOREIGN_PIPELINES[model_type] = pipeline


def foreign_pipeline(model_type: str) -> dict[str, Any]:
    """The pipeline config that an installed method declared for ``model_type``.

    Raises:
        ValueError: If no installed method runs such weights.
    """
    import_methods()
    if model_type not in _FOREIGN_PIPELINES:
        known = ", ".join(sorted(_FOREIGN_PIPELINES)) or "none"
        raise ValueError(f"no installed method runs weights of type {model_type!r} (known: {known})")
    return dict(_FOREIGN_PIPELINES[model_type])


def method_names() -> list[str]:
    """Names of the installed methods, sorted."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def import_methods() -> list[str]:
    """Import every installed method so that its classes are registered; return their names."""
    for point in entry_points(group=ENTRY_POINT_GROUP):
        point.load()
    return method_names()
