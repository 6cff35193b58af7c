"""Config files: every mistake fails when the file is read, and says what was meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from refstream.engine.config import accepts, load_config, missing_files, require_files
from refstream.errors import UserError

CONFIG = """
_base_ = []
_rate = 1e-3
max_iters = 10
model = dict(
    type="TrainingModel",
    model=dict(
        mllm=dict(type="InternVL", config=dict(size="internvl2_5-1b")),
        segmenter=dict(type="Sam2Segmenter", config=dict(size="tiny")),
    ),
    learner=dict(type="StreamingRVOSLearner", mask_loss=dict(type="MaskLoss", num_points=100)),
)
train_dataloader = dict(
    batch_size=2,
    sampler=dict(type="DrawSampler"),
    dataset=dict(type="Mixture", sources=[dict(dataset=dict(type="MeViSDataset", root="data/none/mevis"))]),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=_rate),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=2.0))),
)
_warm_up = dict(by_epoch=True, end=0.1, convert_to_iter_based=True)
param_scheduler = [dict(type="LinearLR", start_factor=1e-5, **_warm_up)]
train_cfg = dict(type="StepTrainLoop", max_iters=max_iters)
custom_hooks = [dict(type="ExportHook", interval=5, priority="LOW")]
"""


def read(folder: Path, *changes: tuple[str, str], **overrides: Any) -> Any:
    text = CONFIG
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "config.py").write_text(text)
    return load_config(folder / "config.py", overrides)


def test_a_sound_config_is_read(tmp_path: Path) -> None:
    config = read(tmp_path, **{"optim_wrapper.optimizer.lr": 0.5, "model.token_rows": "new"})
    assert config.optim_wrapper.optimizer.lr == 0.5
    assert config.model.token_rows == "new"  # not in the file, but an argument of the type


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "num_points=100",
            "num_point=100",
            r"learner.mask_loss: MaskLoss takes no 'num_point'.*'num_points'",
        ),
        ("num_points=100", "num_points='many'", r"mask_loss.num_points: expected int, got 'many'"),
        ("num_points=100", "bce_weight=True", r"mask_loss.bce_weight: expected float, got True"),
        (
            'type="MaskLoss"',
            'type="MaskLos"',
            r"no class is registered as 'MaskLos' \(did you mean 'MaskLoss'",
        ),
        ('root="data/none/mevis"', "root=3", r"sources.0.dataset.root: expected .*, got 3"),
        ("start_factor=1e-5", "start_facto=1e-5", r"param_scheduler.0: LinearLR takes no 'start_facto'"),
        ("lr=_rate", "lr=_rate, weight_deca=1", r"AdamW takes no 'weight_deca'"),
        ("lr=_rate", "lr='fast'", r"optimizer.lr: expected float.*, got 'fast'"),
        ("interval=5", "intervall=5", r"custom_hooks.0: ExportHook takes no 'intervall'"),
        (
            "train_cfg =",
            "train_cfgs = 1\ntrain_cfg =",
            r"nothing reads 'train_cfgs' \(did you mean 'train_cfg'",
        ),
        ("custom_hooks =", "my_hooks =", r"nothing reads 'my_hooks'"),
        ("train_cfg =", "_train =", r"lacks \['train_cfg'\]"),
        ('type="TrainingModel",', 'type="TrainingModel", trainable="head.*",', r"model.trainable: expected"),
    ],
)
def test_a_mistake_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, (old, new))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train_cfg.max_iter", 2, r"no key 'max_iter' \(did you mean 'max_iters'"),
        ("max_iters", 2, "'max_iters' is a variable of the config file, already used"),
        ("optim_wraper.optimizer.lr", 1.0, r"does not exist \(did you mean 'optim_wrapper'"),
        ("train_cfg.max_iters", "many", "train_cfg.max_iters: expected"),
        ("custom_hooks.3.interval", 1, "no key '3'"),
    ],
)
def test_an_override_without_effect_is_refused(key: str, value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, **{key: value})


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    config = read(tmp_path, **{"model.init_from": dict(segmenter="pretrained/none/sam2_hiera_tiny.pt")})
    config.model.sources = [(str(tmp_path), "*"), ("work_dirs/none/export", "*")]
    lines = missing_files(config)
    assert [line.split(" ")[0] for line in lines] == [
        "pretrained/none/sam2_hiera_tiny.pt",
        "work_dirs/none/export",
        "data/none/mevis",
    ]
    with pytest.raises(FileNotFoundError, match=r"072824/sam2_hiera_tiny\.pt.*data/README\.md"):
        require_files(config)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_config(tmp_path / "nowhere.py")


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, 3, 3.0),
        (float, 3, True),
        (bool, False, 0),
        (str, "a", 1),
        (int | None, None, "1"),
        (Literal["a", "b"], "b", "c"),
        (Sequence[str], ["a"], "a"),
        (list[int], (1, 2), [1, "2"]),
        (tuple[float, float], (0.9, 0.99), (0.9,)),
        (Sequence[tuple[str, str]], [("a", "b")], [("a",)]),
        (Mapping[str, Any], {"a": 1}, [1]),
    ],
)
def test_simple_annotations(hint: Any, good: Any, bad: Any) -> None:
    assert accepts(hint, good)
    assert not accepts(hint, bad)
