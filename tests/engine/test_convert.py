"""From checkpoints to folders and back: the masks of the model in memory, and nothing silently missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel

import refstream
from refstream.engine.checkpoint import training_model
from refstream.engine.convert import build_training, convert, find_checkpoint, load_trained, read_checkpoint
from refstream.engine.export import with_aliases
from refstream.errors import UserError
from refstream.models.mllm.lora import lora_layers

from .small_training import mask_logits, squares_config, trained

LORA = {"model.lora": dict(r=4, alpha=8, dropout=0.1), "model.token_rows": "new"}


def lora_config(**changes: Any) -> Config:
    return squares_config([dict(type="ExportHook")], save=True, **LORA, **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model trained two iterations with LoRA, and its work directory."""
    folder = tmp_path_factory.mktemp("run") / "lora"
    runner = trained(lora_config(), folder)
    model = training_model(runner).model
    assert lora_layers(model)
    assert all(layer.lora_B["default"].weight.abs().sum() > 0 for layer in lora_layers(model).values())
    return model, folder


def pth(model: Any, path: Path, **more: Any) -> Path:
    """A checkpoint as mmengine's CheckpointHook writes it, with its loss curves."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    curve = HistoryBuffer([0.5, 0.25], [1, 1])
    history = {"log_scalars": {"train/loss": curve}, "runtime_info": {"iter": 2, "lr": np.float64(0.1)}}
    torch.save({"meta": {"iter": 2}, "state_dict": {**state, **more}, "message_hub": history}, path)
    return path


# ---------------------------------------------------------------- there


@pytest.mark.parametrize("kind", ["work directory", "checkpoint folder", "pth", "export"])
def test_masks_are_those_of_the_trained_model(run: tuple[Any, Path], kind: str, tmp_path: Path) -> None:
    model, work_dir = run
    expected, out = mask_logits(model), tmp_path / "out"
    if kind == "export":
        out = work_dir / "export"
    else:
        place = {"work directory": work_dir, "checkpoint folder": work_dir / "iter_00000002"}.get(kind)
        report = convert(lora_config(), place or pth(model, tmp_path / "iter_2.pth"), out)
        assert report.trained > 0
        assert (report.from_config == 0) == (kind == "pth")
    loaded = refstream.load(out)
    assert not lora_layers(loaded)
    again = AutoModel.from_pretrained(out)
    for one in (loaded, again):
        assert (mask_logits(one) - expected).abs().max() < 1e-5
    fresh = build_training(lora_config()).model
    assert (mask_logits(fresh) - expected).abs().max() > 1e-3, (
        "training changed nothing, so this proves nothing"
    )
    stored = load_file(out / "model.safetensors")
    assert not [name for name in stored if "lora" in name or "base" in name]


def test_going_on_starts_from_the_same_masks(run: tuple[Any, Path], tmp_path: Path) -> None:
    model, work_dir = run
    convert(lora_config(), work_dir, tmp_path / "out")
    onward = lora_config(**{"model.sources": [(str(tmp_path / "out"), "*")]})
    training = build_training(onward)
    assert lora_layers(training.model)
    assert (mask_logits(training.model) - mask_logits(model)).abs().max() < 1e-5
    runner = trained(onward, tmp_path / "more")
    assert torch.isfinite(mask_logits(training_model(runner).model)).all()


def test_the_dtype_and_the_shards_are_the_asked_ones(run: tuple[Any, Path], tmp_path: Path) -> None:
    convert(lora_config(), run[1], tmp_path / "out", dtype=torch.bfloat16, max_shard_size=200_000)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    assert len(shards) > 1
    state = {k: v for name in shards for k, v in load_file(tmp_path / "out" / name).items()}
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.bfloat16}
    for name, value in refstream.load(tmp_path / "out").state_dict().items():
        assert torch.equal(value, state[name].to(value.dtype))


# ---------------------------------------------------------------- the layout of Sa2VA


def test_the_layout_of_sa2va_gives_the_same_masks(run: tuple[Any, Path], tmp_path: Path) -> None:
    model, work_dir = run
    convert(lora_config(), work_dir, tmp_path / "out", layout="sa2va")
    loaded = refstream.load(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "sa2va_chat"
    assert loaded.config.pipeline == model.config.pipeline
    assert loaded.prompt_options() == model.prompt_options()
    assert (mask_logits(loaded) - mask_logits(model)).abs().max() < 1e-5
    keys = set(load_file(tmp_path / "out" / "model.safetensors"))
    assert {key.split(".")[0] for key in keys} == {
        "vision_model", "language_model", "mlp1", "text_hidden_fcs", "grounding_encoder",
    }  # fmt: skip


# ---------------------------------------------------------------- the page


def test_the_page_says_where_it_comes_from(run: tuple[Any, Path], tmp_path: Path) -> None:
    config = lora_config()
    config.train_dataloader.dataset = dict(
        type="Mixture",
        sources=[
            dict(dataset=dict(type="Squares"), repeats=4.0, name="squares"),
            dict(dataset=dict(type="Other")),
        ],
    )
    results = {
        "benchmark": "minirvos", "command": "refstream eval x", "commit": "abc",
        "rows": [{"run": "model", "J&F": 51.25, "held out": None}],
    }  # fmt: skip
    convert(config, run[1], tmp_path / "out", config_name="a/b.py", results=results, licence="CC BY 4.0")
    page = (tmp_path / "out" / "README.md").read_text()
    for text in (
        "# out", "`a/b.py`", "iter_00000002", "CC BY 4.0", "random weights", "| squares | `Squares` | 4.0 x",
        "| model | 51.2 | - |", "commit abc", "`StreamingRVOS` on InternVL, Sam2Segmenter",
    ):  # fmt: skip
        assert text in page, text
    assert str(tmp_path) not in page


# ---------------------------------------------------------------- what is refused


def broken(checkpoint: Path, change: Any) -> dict[str, Tensor]:
    state = read_checkpoint(checkpoint)
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model.head.layers.0.weight"), r"1 missing though trained: model\.head\.layers\.0"),
        (lambda s: s.update({"model.extra": torch.zeros(1)}), r"not in the config's model: model\.extra"),
        (
            lambda s: s.update({"model.head.layers.0.bias": torch.zeros(3)}),
            r"of another shape: .*\(3,\) instead",
        ),
    ],
)
def test_nothing_is_silently_missing(run: tuple[Any, Path], change: Any, message: str) -> None:
    state = broken(run[1] / "iter_00000002", change)
    training = build_training(lora_config())
    before = {name: value.clone() for name, value in training.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_trained(training, state, Path("x"))
    assert all(torch.equal(value, before[name]) for name, value in training.state_dict().items())


def test_a_trained_mask_decoder_may_not_be_lost(run: tuple[Any, Path]) -> None:
    """What the released conversion drops without a word."""
    state = broken(run[1] / "iter_00000002", lambda s: None)
    kept = {name: value for name, value in state.items() if "mask_decoder" not in name}
    with pytest.raises(ValueError, match=r"missing though trained: model\.segmenter.*mask_decoder"):
        load_trained(build_training(lora_config()), kept, Path("x"))


def test_checkpoints_are_found_and_bad_ones_refused(run: tuple[Any, Path], tmp_path: Path) -> None:
    assert find_checkpoint(run[1]).name == "iter_00000002"
    with pytest.raises(UserError, match="no checkpoint at"):
        find_checkpoint(tmp_path / "none")
    with pytest.raises(UserError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)
    for number in (9, 10):
        (tmp_path / f"iter_{number}.pth").write_bytes(b"x")
    assert find_checkpoint(tmp_path).name == "iter_10.pth"
    folder = tmp_path / "zero"
    folder.mkdir()
    (folder / "mp_rank_00_model_states.pt").write_bytes(b"x")
    with pytest.raises(UserError, match="unpickling"):
        find_checkpoint(folder)
    with pytest.raises(UserError, match="not an empty folder"):
        convert(lora_config(), run[1], tmp_path)


class Evil:
    """Would run something when unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("never"),))


class Reaching:
    """Would reach past the loss curves that mmengine's checkpoints hold."""

    def __reduce__(self) -> Any:
        return (getattr, (HistoryBuffer, "__init__"))


@pytest.mark.parametrize("kind", [Evil, Reaching])
def test_a_pth_with_code_in_it_is_not_loaded(
    kind: type, run: tuple[Any, Path], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="could run code"):
        read_checkpoint(pth(run[0], tmp_path / "x.pth", evil=kind()))
    assert not (tmp_path / "never").exists()


def test_shared_tensors_get_all_their_names() -> None:
    module = torch.nn.Module()
    module.a = torch.nn.Linear(2, 2)
    module.b = module.a
    state = {"a.weight": torch.ones(2, 2), "a.bias": torch.ones(2)}
    assert with_aliases(module, state).keys() == module.state_dict().keys()
    assert with_aliases(module, {}) == {}


def test_a_damaged_checkpoint_is_passed_over(run: tuple[Any, Path], tmp_path: Path) -> None:
    source, folder = run[1] / "iter_00000002", tmp_path / "iter_00000002"
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    state = load_file(folder / "model.safetensors")
    save_file({name: value + 1 if value.is_floating_point() else value for name, value in state.items()},
              folder / "model.safetensors")  # fmt: skip
    with pytest.raises(UserError, match="damaged"):
        find_checkpoint(folder)
    with pytest.raises(UserError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)
