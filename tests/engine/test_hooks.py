"""The hooks on real runs of a very small model: what they write, and that training does not feel them."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import refstream
from refstream.engine.export import export_model, replace_folder
from refstream.engine.hooks import BenchmarkHook, JsonLinesHook, PictureHook, quiet_terminal
from refstream.engine.hooks.common import aside
from refstream.engine.hooks.logging import table_cells
from refstream.engine.hooks.pictures import draw_batch
from refstream.errors import UserError
from refstream.streaming.overlay import PALETTE
from refstream.testing import FakeModel, moving_square_video, small_model

from .small_training import lines, squares_config, trained

EVALUATION = dict(
    type="BenchmarkHook", interval=1, clips=1, split="val", num_frames=2, size=64, max_expressions=2,
    families=["appearance"],
)  # fmt: skip


def weights(runner: Any) -> dict[str, torch.Tensor]:
    return runner.model.state_dict()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A run that is only logged."""
    folder = tmp_path_factory.mktemp("plain")
    return trained(squares_config([dict(type="JsonLinesHook", interval=1)]), folder), folder


# ---------------------------------------------------------------- training does not feel them


def test_evaluating_and_drawing_leave_training_as_it_is(plain: tuple[Any, Path], tmp_path: Path) -> None:
    hooks = [
        dict(type="JsonLinesHook", interval=1),
        EVALUATION,
        dict(type="PictureHook", interval=1),
        dict(type="ReferringProbeHook", interval=1, num_stills=2),
    ]
    watched = trained(squares_config(hooks), tmp_path)
    alone = weights(plain[0])
    assert all(torch.equal(value, alone[name]) for name, value in weights(watched).items())
    said = [line for line in lines(tmp_path) if "loss" in line]
    before = lines(plain[1])
    for name in ("loss", "loss_bce", "sample_hash"):
        assert [line[name] for line in said] == [line[name] for line in before]
    evaluated = [line for line in lines(tmp_path) if "eval" in line]
    assert [line["iter"] for line in evaluated] == [1, 2]
    assert all(0 <= line["eval"] <= 100 and 0 < line["eval_calls_per_frame"] <= 1 for line in evaluated)
    assert evaluated[0]["eval_appearance"] == evaluated[0]["eval"]
    best = json.loads((tmp_path / "best" / "score.json").read_text())
    assert best["score"] == pytest.approx(max(line["eval"] for line in evaluated), abs=1e-3)
    assert refstream.load(tmp_path / "best").config.pipeline["type"] == "StreamingRVOS"
    sheet = np.asarray(Image.open(tmp_path / "pictures" / "iter_00000002.png"))
    assert sheet.shape[1] == 2 * 240
    assert [p for p in tmp_path.iterdir() if p.name.endswith((".partial", ".previous"))] == []


def test_aside_puts_everything_back() -> None:
    model = small_model()
    training = SimpleNamespace(model=model, autocast=None, modules=model.modules, eval=model.eval)
    model.train()
    model.head.eval()
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(2), np.random.rand(2)
    torch.manual_seed(5)
    np.random.seed(5)
    with suppress(KeyError), aside(training):
        assert not model.mllm.training
        assert not torch.is_grad_enabled()
        torch.rand(3), np.random.rand(3)
        raise KeyError
    assert model.training
    assert model.mllm.training
    assert not model.head.training
    assert torch.is_grad_enabled()
    assert torch.equal(torch.rand(2), expected[0])
    assert np.array_equal(np.random.rand(2), expected[1])


# ---------------------------------------------------------------- evaluation


def benchmark_run(
    monkeypatch: pytest.MonkeyPatch, folder: Path, scores: list[float]
) -> tuple[Any, list[int]]:
    """A hook whose evaluations give these scores, after as many iterations, and when it kept the model."""
    from refstream.engine.hooks import validation

    kept: list[int] = []
    upcoming = iter(scores)
    monkeypatch.setattr(
        validation,
        "run_benchmark",
        lambda *a, **k: SimpleNamespace(
            value=lambda metric: next(upcoming),
            summary={},
            speed=SimpleNamespace(mllm_calls_per_frame=0.5),
        ),
    )
    monkeypatch.setattr(validation, "export_live", lambda runner, *a: kept.append(runner.iter + 1))
    model = small_model()
    training = torch.nn.Module()
    training.model, training.learner, training.autocast = model, None, None
    runner = SimpleNamespace(
        model=training, rank=0, work_dir=str(folder), cfg={}, max_iters=100, logger=logging.getLogger("x")
    )
    hook = BenchmarkHook(interval=10)
    for step in range(len(scores)):
        runner.iter = 10 * step + 9
        hook.after_train_iter(runner, 0)
    return hook, kept


def test_only_a_better_score_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hook, kept = benchmark_run(monkeypatch, tmp_path, [50.0, 40.0, 50.0, 50.1, float("nan")])
    assert kept == [10, 40]
    again = BenchmarkHook()
    again.load_state_dict(hook.state_dict())
    assert again.best == 50.1


def test_impossible_evaluations_are_refused_before_training() -> None:
    with pytest.raises(UserError, match="unknown benchmark"):
        BenchmarkHook(benchmark="nothing")
    with pytest.raises(ValueError, match="metric"):
        BenchmarkHook(metric="iou")
    with pytest.raises(UserError, match="split"):
        BenchmarkHook(split="tset")


# ---------------------------------------------------------------- numbers


def test_a_record_says_what_it_cost(plain: tuple[Any, Path]) -> None:
    first, second = lines(plain[1])
    assert (first["iter"], second["iter"]) == (1, 2)
    for line in (first, second):
        assert line["samples_per_s"] > 0
        assert 0 <= line["data_share"] <= 1
        assert 0 < line["data_seconds"] < line["seconds"] + 0.1
        assert 50 < line["cpu_mb"] < 50_000
        assert line["cuda_mb"] is None or line["cuda_mb"] > 0
        assert line["grad_norm"] > 0
        assert line["looks_per_frame"] > 0
        assert line["loss"] == pytest.approx(
            sum(v for k, v in line.items() if k.startswith("loss_")), abs=1e-4
        )
    assert first["sample_hash"] != second["sample_hash"]


def step(hook: JsonLinesHook, runner: Any, number: int, value: float, ids: list[str]) -> None:
    runner.iter = number
    batch = SimpleNamespace(sample_ids=ids)
    hook.after_train_iter(runner, number, {"batch": batch}, {"loss": torch.tensor(value), "iou": value / 2})


def fake_runner(folder: Path, **more: Any) -> SimpleNamespace:
    hub = SimpleNamespace(log_scalars={"train/grad_norm": HistoryBuffer([1.0, 2.0, 3.0], [1, 1, 1])})
    keys = dict(
        rank=0, world_size=2, work_dir=str(folder), train_loop=SimpleNamespace(), message_hub=hub, iter=0,
        max_iters=9, optim_wrapper=SimpleNamespace(get_lr=lambda: {"lr": [0.125]}),
    )  # fmt: skip
    return SimpleNamespace(**{**keys, **more})


def test_means_hashes_and_what_is_not_measured(tmp_path: Path) -> None:
    runner, hook = fake_runner(tmp_path), JsonLinesHook(interval=2)
    hook.before_train(runner)
    for number, value in enumerate((1.0, 2.0, 4.0)):
        step(hook, runner, number, value, [f"a{number}", f"b{number}"])
    (record,) = lines(tmp_path)
    assert (record["loss"], record["iou"], record["lr"], record["grad_norm"]) == (1.5, 0.75, 0.125, 2.5)
    assert record["data_seconds"] is None
    assert record["data_share"] is None
    resumed = JsonLinesHook(interval=2)  # goes on with one of two iterations of its record done
    resumed.load_state_dict(json.loads(json.dumps(hook.state_dict())))
    resumed.before_train(runner)
    for one in (hook, resumed):
        step(one, runner, 3, 8.0, ["a3"])
    _, straight, later = lines(tmp_path)
    assert straight["loss"] == later["loss"] == 6.0
    assert straight["sample_hash"] == later["sample_hash"] != record["sample_hash"]
    runner.rank = 1
    for number in (4, 5):
        step(hook, runner, number, 1.0, [])
    assert len(lines(tmp_path)) == 3
    with pytest.raises(ValueError, match="interval"):
        JsonLinesHook(interval=0)


def test_the_terminal_gets_a_table_and_the_file_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = squares_config([dict(type=f"{kind}Hook", interval=1) for kind in ("Terminal", "TensorBoard")])
    trained(config, tmp_path)
    shown = capsys.readouterr().err.splitlines()
    start = next(number for number, line in enumerate(shown) if line.lstrip().startswith("iter "))
    heading, first, second = shown[start : start + 3]
    assert heading.split() == [
        "iter", "loss", "bce", "dice", "text", "iou", "gate", "norm", "lr", "samples/s", "wait", "GB", "left",
    ]  # fmt: skip
    assert first.split()[0] == "1/2"
    assert second.split()[-1] == "0:00:00"
    assert len(heading) == len(first) == len(second)
    said = "".join(file.read_text() for file in tmp_path.rglob("*.log"))
    assert "Hooks will be executed" in said
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2]
    assert events.Scalars("train/looks_per_frame")[0].value > 0
    assert "train/sample_hash" not in events.Tags()["scalars"]


def test_a_row_is_as_wide_as_its_heading() -> None:
    record = {
        "iter": 7, "loss": 1.23456, "loss_bce": 0.5, "iou": 0.25, "lr": 1e-4, "samples_per_s": 12.3,
        "data_share": 0.034, "cpu_mb": 2048, "cuda_mb": 71680,
    }  # fmt: skip
    cells = table_cells(record, 1400, 3725.0)
    assert cells["iter"] == "   7/1400"
    assert (cells["loss"], cells["bce"], cells["wait"]) == (" 1.2346", " 0.5000", "   3%")
    assert cells["GB"].split() == ["2.0", "+", "70.0"]
    assert cells["left"].strip() == "1:02:05"
    assert table_cells({**record, "data_share": None}, 1400, 0)["wait"].strip() == "-"


def test_warnings_stay_in_the_terminal() -> None:
    logger = logging.getLogger("of this test")
    shown, noisy = io.StringIO(), logging.StreamHandler()
    noisy.setStream(shown)
    logger.addHandler(noisy)
    quiet_terminal(logger)
    logger.setLevel(logging.INFO)
    logger.info("chatter")
    logger.warning("careful")
    assert shown.getvalue() == "careful\n"


# ---------------------------------------------------------------- pictures


def test_a_sheet_shows_truth_and_prediction() -> None:
    from refstream.data.collate import ClipSample, collate_clips

    frames, masks = moving_square_video(4)
    clip = np.stack([frame.image for frame in frames])
    words = ["the red square", "the blue square"]
    batch = collate_clips([ClipSample(clip, words, masks[:2], f"clip {n}") for n in range(3)])
    sheet = draw_batch(FakeModel({"type": "StreamingRVOS"}), batch, num_clips=2, num_frames=3, width=128)
    assert sheet.shape[1] == 3 * 128
    rows = sheet.shape[0] // 2
    assert np.array_equal(sheet[:128], sheet[rows : rows + 128])  # the same clip and words twice
    first = sheet[:128, :128].reshape(-1, 3).astype(int)
    outlined = (first == PALETTE[7]).all(1).sum()
    filled = (np.abs(first - np.add(PALETTE[0], (255, 0, 0)) / 2) < 30).all(1).sum()
    assert 40 < outlined < 400
    assert filled > 100
    with pytest.raises(ValueError, match="positive"):
        PictureHook(num_clips=0)


def test_hooks_for_one_process_refuse_divided_parameters() -> None:
    runner = SimpleNamespace(
        cfg={"strategy": {"type": "DeepSpeedStrategy", "zero_optimization": {"stage": 3}}}
    )
    with pytest.raises(UserError, match="PictureHook runs the model on the first process alone"):
        PictureHook().before_train(runner)
    runner.cfg["strategy"]["zero_optimization"]["stage"] = 2
    PictureHook().before_train(runner)


# ---------------------------------------------------------------- exports


def test_a_broken_export_leaves_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    model = small_model()
    export_model(model, folder, files={"README.md": "one"})

    def fail(target: Path) -> None:
        (target / "config.json").write_text("{}")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_folder(folder, fail)
    assert (folder / "README.md").read_text() == "one"
    assert refstream.load(folder).config.model_type == "refstream"
    export_model(model, folder, files={"README.md": "two"})
    assert (folder / "README.md").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    with pytest.raises(ValueError, match="layout"):
        export_model(model, folder, layout="other")


def test_a_killed_export_leaves_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "old").write_text("x")
    child = os.fork()
    if child == 0:
        replace_folder(folder, lambda target: os.kill(os.getpid(), signal.SIGKILL))
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert (tmp_path / ".export.partial").is_dir()
    assert [path.name for path in folder.iterdir()] == ["old"]
    replace_folder(folder, lambda target: (target / "new").write_text("x"))
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
