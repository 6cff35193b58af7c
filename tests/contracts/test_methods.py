"""What every method keeps, whoever wrote it: run over each installed method and over the template.

A method's pipelines are the classes that its package registers; each must build from a model alone. They run
on fakes; a pipeline that brings a head of its own (``head_for``) runs on a real model with random weights, in
double precision, so that queries answer the same alone and in a batch. A pipeline that prompts the segmenter
by words (``answer_words``) runs on what its method's ``tests/contract.py`` has: ``KEYS`` of each such
pipeline, ``model(config)`` with random weights, and ``speak(model)``, which puts a script in the place of
what it would have to learn. A pipeline that answers in words alone has its own tests.
"""

from __future__ import annotations

import importlib
import inspect
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects._template import TemplatePipeline

from refstream.models.loading import load
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.modeling import RefStreamConfig, RefStreamModel
from refstream.models.protocols import answers_of
from refstream.registry import ENTRY_POINT_GROUP, PIPELINES, import_methods, method_names
from refstream.streaming.session import StreamSession
from refstream.structures import Frame, StreamEvent
from refstream.testing import FakeModel, fitting_head, moving_square_video, small_model

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "refstream_projects"
METHODS = [*import_methods(), "_template"]
EXPRESSIONS = ["the red square", "the blue square"]
CONTROLS = [
    {},
    {"gate": {"type": "EveryKGate", "k": 3}},
    {"gate": {"type": "EveryFrameGate"}},
    {"online": True},
]
SPOKEN_CONTROLS = [{}, {"gate": {"type": "EveryKGate", "k": 3}, "memory": {"type": "sam2"}}]


def pipelines_of(method: str) -> list[str]:
    """Names of the pipelines that a method registers."""
    importlib.import_module(f"{PACKAGE}.{method}")
    home = f"{PACKAGE}.{method}."
    return sorted(
        name for name, kind in PIPELINES.module_dict.items() if f"{kind.__module__}.".startswith(home)
    )


def takes(kind: str, keys: dict[str, Any]) -> bool:
    return set(keys) <= set(inspect.signature(PIPELINES.get(kind)).parameters)


def answers_by_masks(kind: str) -> bool:
    pipeline: Any = PIPELINES.get(kind)
    return answers_of(pipeline) != "text"


def speaks(kind: str) -> bool:
    """Whether the MLLM must have learned to speak before there are masks."""
    return bool(getattr(PIPELINES.get(kind), "answer_words", ()))


def script_of(kind: str) -> Any:
    """``tests/contract.py`` of the method whose pipeline prompts by words."""
    method = PIPELINES.get(kind).__module__.split(".")[1]
    return importlib.import_module(f"{PACKAGE}.{method}.tests.contract")


def keys_of(kind: str) -> dict[str, Any]:
    """What a pipeline is always built with."""
    return dict(script_of(kind).KEYS[kind]) if speaks(kind) else {}


def name_of(keys: dict[str, Any]) -> str:
    return (
        "+".join(value["type"] if isinstance(value, dict) else key for key, value in keys.items())
        or "default"
    )


CASES = [
    pytest.param(dict(keys_of(kind), **keys, type=kind), id=f"{kind}-{name_of(keys)}")
    for method in METHODS
    for kind in pipelines_of(method)
    for keys in (SPOKEN_CONTROLS if speaks(kind) else CONTROLS)
    if takes(kind, keys) and answers_by_masks(kind)
]


def model_for(config: dict[str, Any]) -> Any:
    """The fake, or a small real model for a pipeline that the fake's head cannot serve, or that speaks."""
    if speaks(config["type"]):
        script = script_of(config["type"])
        model = script.model(config).double()
        script.speak(model)
        return model
    if not hasattr(PIPELINES.get(config["type"]), "head_for"):
        return FakeModel()
    torch.manual_seed(0)
    return small_model(config, words=" ".join(EXPRESSIONS)).double()


def run(config: dict[str, Any], frames: list[Frame], expressions: list[str]) -> list[StreamEvent]:
    session = StreamSession(model_for(config).pipeline(**config))
    session.open(expressions)
    return [event for frame in frames for event in session.step(frame)] + session.close()


def answers(events: list[StreamEvent]) -> dict[tuple[str, int], tuple]:
    """What the events say, without the clock."""
    return {
        (e.query_id, e.frame_index): (
            None if e.mask is None else e.mask.tobytes(),
            e.text,
            e.pred_iou,
            e.consistency,
            e.object_score,
            e.invoked_mllm,
            e.reason,
        )
        for e in events
    }


def rounded(found: dict[tuple[str, int], tuple]) -> dict[tuple[str, int], tuple]:
    """Answers up to what a matrix product owes to the size of its batch."""
    return {
        key: tuple(round(x, 5) if isinstance(x, float) else x for x in values)
        for key, values in found.items()
    }


def size_of(value: Any) -> int:
    """Elements of all tensors and arrays, and items of all containers, that a state holds."""
    if isinstance(value, torch.Tensor | np.ndarray):
        # A view keeps the whole storage alive: count that, not the view.
        return value.untyped_storage().nbytes() if isinstance(value, torch.Tensor) else value.nbytes
    if isinstance(value, dict):
        return len(value) + sum(map(size_of, value.values()))
    if isinstance(value, str | bytes):
        return len(value)
    try:
        items = list(value)
    except TypeError:
        return sum(map(size_of, vars(value).values())) if hasattr(value, "__dict__") else 1
    return len(items) + sum(map(size_of, items))


# ---------------------------------------------------------------- discovery


def test_every_folder_is_an_entry_point():
    folders = sorted(path.parent.name for path in (ROOT / "projects").glob("[!_]*/__init__.py"))
    assert folders, "no method found under projects/"
    assert method_names() == folders, f"run make install: the group {ENTRY_POINT_GROUP} is out of date"


@pytest.mark.parametrize("method", METHODS)
def test_method_registers_a_pipeline(method):
    assert pipelines_of(method), f"{PACKAGE}.{method} must import a class with @PIPELINES.register_module()"


@pytest.mark.parametrize("method", METHODS)
def test_method_has_readme_configs_and_tests(method):
    folder = ROOT / "projects" / method
    assert (folder / "README.md").is_file()
    assert list(folder.glob("configs/*.py"))
    assert list(folder.glob("tests/test_*.py"))


# ---------------------------------------------------------------- behaviour


@pytest.mark.parametrize("config", CASES)
def test_one_event_per_query_and_frame(config):
    frames, _ = moving_square_video(8)
    events = run(config, frames, EXPRESSIONS)
    assert sorted(answers(events)) == [(query, t) for query in ("0", "1") for t in range(8)]
    assert len(events) == 16
    for event in events:
        assert event.mask is None or (event.mask.dtype == bool and event.mask.shape == frames[0].size)
        assert event.mask is not None or event.text is not None
        assert event.time_s == frames[event.frame_index].time_s
        assert event.pred_iou is None or 0.0 <= event.pred_iou <= 1.0
        assert event.consistency is None or 0.0 <= event.consistency <= 1.0
        assert event.reason


@pytest.mark.parametrize("config", CASES)
@pytest.mark.parametrize("cut", [1, 4, 7])
def test_events_depend_on_the_past_only(config, cut):
    """Other frames after the cut leave every event before it as it was."""
    frames, _ = moving_square_video(8)
    rng = np.random.default_rng(0)
    noise = [Frame(f.index, f.time_s, rng.integers(0, 256, f.image.shape, np.uint8)) for f in frames[cut:]]
    pipeline = model_for(config).pipeline(**config)
    if not pipeline.causal:
        assert pipeline.max_frames, "a pipeline that is not causal says how many frames it buffers"
        with pytest.raises(ValueError, match="live"):
            StreamSession(pipeline, live=True)
        return
    before, after = (answers(run(config, f, EXPRESSIONS)) for f in (frames, frames[:cut] + noise))
    shared = [key for key in before if key[1] < cut]
    assert len(shared) == 2 * cut
    assert all(before[key] == after[key] for key in shared)
    assert any(before[key] != after[key] for key in before), "the frames after the cut had no effect at all"


@pytest.mark.parametrize("config", CASES)
def test_event_comes_with_its_frame(config):
    """A causal pipeline answers at once, it does not lag."""
    frames, _ = moving_square_video(4)
    session = StreamSession(model_for(config).pipeline(**config))
    session.open(EXPRESSIONS)
    for frame in frames:
        events = session.step(frame)
        expected = [frame.index] * 2 if session.pipeline.causal else []
        assert [event.frame_index for event in events] == expected


@pytest.mark.parametrize("config", CASES)
def test_state_stays_bounded(config):
    frames, _ = moving_square_video(20)
    model = model_for(config)
    pipeline = model.pipeline(**config)
    if not pipeline.causal:
        pytest.skip("buffers up to max_frames by declaration")
    last = 200 if isinstance(model, FakeModel) else 100
    session = StreamSession(pipeline)
    session.open(EXPRESSIONS)
    sizes = {}
    for t in range(last):
        session.step(Frame(t, t / 10, frames[t % 20].image))
        sizes[t + 1] = sum(size_of(state) for state in session._states.values())
    assert sizes[last] == sizes[50] > 0


@pytest.mark.parametrize("config", CASES)
def test_queries_do_not_disturb_each_other(config):
    frames, _ = moving_square_video(8)
    both = rounded(answers(run(config, frames, EXPRESSIONS)))
    for number, expression in enumerate(EXPRESSIONS):
        alone = rounded(answers(run(config, frames, [expression])))
        assert all(alone[("0", t)] == both[(str(number), t)] for t in range(8))


@pytest.mark.parametrize("config", CASES)
def test_each_encoder_sees_a_frame_at_most_once(config, monkeypatch):
    frames, _ = moving_square_video(8)
    model = model_for(config)
    images = {"segmenter": 0, "mllm": 0}

    def counted(part: str, encode: Any) -> Any:
        def run_it(pixels: torch.Tensor) -> Any:
            images[part] += len(pixels)
            return encode(pixels)

        return run_it

    monkeypatch.setattr(model.segmenter, "encode", counted("segmenter", model.segmenter.encode))
    monkeypatch.setattr(model.mllm, "encode_images", counted("mllm", model.mllm.encode_images))
    session = StreamSession(model.pipeline(**config))
    session.open([*EXPRESSIONS, "the red square"])
    for frame in frames:
        session.step(frame)
    session.close()
    assert 1 <= images["segmenter"] <= 8
    assert 1 <= images["mllm"] <= 8


@pytest.mark.parametrize("config", CASES)
def test_two_runs_agree(config):
    frames, _ = moving_square_video(8)
    assert answers(run(config, frames, EXPRESSIONS)) == answers(run(config, frames, EXPRESSIONS))


# ---------------------------------------------------------------- export

VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
LANGUAGE = {**VISION, "model_type": "qwen2", "num_key_value_heads": 2, "vocab_size": 64}
TRUNK = {"embed_dim": 8, "num_heads": 1, "stages": [1, 1, 2, 1], "global_att_blocks": [3]}
WINDOWS = {"window_spec": [8, 4, 4, 2], "window_pos_embed_bkg_spatial_size": [2, 2]}
SMALL_MLLM = {
    "vision_config": {**VISION, "image_size": [56, 56], "patch_size": [14, 14]},
    "text_config": LANGUAGE,
}
SMALL_SEGMENTER = {
    "trunk": {**TRUNK, **WINDOWS},
    "image_size": 64,
    "hidden_dim": 32,
    "mem_dim": 16,
    "memory_attention": {"layers": 1, "feedforward": 32},
    "mask_decoder": {"mlp": 32, "iou_head_hidden": 16},
}


def exported_for(config: dict[str, Any]) -> RefStreamModel:
    """A real model with random weights, in single precision."""
    if speaks(config["type"]):
        model: RefStreamModel = script_of(config["type"]).model(config)
        return model
    settings = RefStreamConfig(
        mllm={"type": "InternVL", "config": SMALL_MLLM},
        segmenter={"type": "Sam2Segmenter", "config": SMALL_SEGMENTER},
        head=fitting_head(config["type"], image_size=64, hidden_size=32, prompt_dim=32),
        pipeline=config,
    )
    return RefStreamModel(settings, build_tiny_tokenizer(EXPRESSIONS)).eval()


@pytest.mark.parametrize("config", CASES)
def test_exported_model_answers_the_same(config, tmp_path):
    """A folder names the registered method; loaded again it gives the same events, bit by bit."""
    frames, _ = moving_square_video(5)
    model = exported_for(config)
    model.save(tmp_path)
    text = (tmp_path / "config.json").read_text()
    assert config["type"] in text
    assert PACKAGE not in text, "config.json must name a registered class, not a module"

    def stream(some_model: Any) -> dict[tuple[str, int], tuple]:
        if speaks(config["type"]):
            script_of(config["type"]).speak(some_model)  # after saving and loading: no weights hold a script
        session = StreamSession(some_model.pipeline())
        session.open(EXPRESSIONS)
        return answers([event for frame in frames for event in session.step(frame)] + session.close())

    assert stream(load(tmp_path)) == stream(model)


# ---------------------------------------------------------------- the contract can fail


class Hoarder(TemplatePipeline):
    """Keeps every frame."""

    def step(self, states, frame, features):
        for state in states:
            state.frames = [*getattr(state, "frames", []), frame.image]
        return super().step(states, frame, features)


def test_size_of_sees_growth():
    assert size_of({"a": [torch.zeros(2, 3)]}) == 1 + 1 + 24
    assert size_of(torch.zeros(100)[:1]) == 400, "a view keeps its whole storage"
    assert size_of(deque([np.zeros(5, np.uint8)])) == 6


def test_growing_state_is_noticed():
    frames, _ = moving_square_video(6)
    session = StreamSession(Hoarder(FakeModel()))
    session.open(EXPRESSIONS)
    sizes = []
    for frame in frames:
        session.step(frame)
        sizes.append(sum(size_of(state) for state in session._states.values()))
    assert sizes == sorted(set(sizes))
