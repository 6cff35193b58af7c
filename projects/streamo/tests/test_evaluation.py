"""The evaluation of streams agrees with the compiler about what is due, and runs this method's pipeline."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from refstream_projects.streamo.clock import StreamClock
from refstream_projects.streamo.compiler import compile_record
from refstream_projects.streamo.pipeline import Streamo

from refstream.evaluation.protocols.base import OVERALL
from refstream.evaluation.readers.minirvos_streams import minirvos_streams
from refstream.evaluation.stream_evaluation import StreamEvaluation
from refstream.evaluation.stream_truth import questions_of, turn_truth
from refstream.synthetic.streams import MiniStreams

from .models import small_speaker


@pytest.mark.parametrize("fps", [0.5, 1.0, 2.0])
def test_what_is_due_is_what_was_trained(fps):
    """Each question of a record against the compiled dialogue of the record with that question only."""
    clock, number = StreamClock(fps), 0
    source = MiniStreams("val", seed=5, num_streams=12, size=32)
    for index in range(len(source)):
        for record in source.records(index):
            for ask, question in enumerate(questions_of(record, "r", "v")):
                own = tuple(dataclasses.replace(a, ask=0) for a in record.answers if a.ask == ask)
                single = dataclasses.replace(record, asks=(record.asks[ask],), answers=own)
                turns = compile_record(single, clock).turns
                start = next(k for k, turn in enumerate(turns) if turn.asks)
                truth = turn_truth(question, [turn.start_s for turn in turns[start:]], fps)
                assert list(truth.states) == [turn.state for turn in turns[start:]], (record.id, ask)
                assert all(turn.state == "silence" for turn in turns[:start])
                said = [" ".join(turn.answers) for turn in turns if turn.answers]
                assert [due.text for due in truth.due] == said, (record.id, ask)
                number += 1
    assert number > 50


def test_the_pipeline_is_heard():
    """Random weights: every question is judged at each of its turns, the same alone as side by side."""
    model = small_speaker({"type": Streamo.__name__, "max_new_tokens": 4}, max_position_embeddings=2048)
    world = minirvos_streams("test", num_streams=1, size=64, duration_s=10.0)
    torch.manual_seed(0)
    evaluation = StreamEvaluation(model.pipeline(), world)
    records = evaluation.run()
    for item, question in world.questions.items():
        turns = [float(k) for k in range(int(question.ask_s), 10)]
        assert records[item]["turns"] == turns, item
        assert [at for at, _, _ in records[item]["events"]] == turns, item
        assert all(state is not None for _, _, state in records[item]["events"])
    alone = StreamEvaluation(model.pipeline(), world, per_stream=1).run()
    states = {item: [state for _, _, state in record["events"]] for item, record in records.items()}
    assert {i: [s for _, _, s in r["events"]] for i, r in alone.items()} == states
    summary = evaluation.result("random").summary[OVERALL]
    assert summary["questions"] == len(world.questions)
    twice = StreamEvaluation(model.pipeline(fps=2.0), world)
    assert twice.fps == 2.0
    assert len(next(iter(twice.run().values()))["turns"]) > 10
