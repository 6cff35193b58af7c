"""A model on a world of streams, from frames to figures: run, floors, result; resumable by question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from refstream.errors import OutputError, UserError
from refstream.evaluation.ledger import FolderLedger, Ledger, MemoryLedger, Record
from refstream.evaluation.listening import Ask, Heard, check_speaks, listen, rate_of
from refstream.evaluation.metrics.timing import DELTA_S, REACH_S
from refstream.evaluation.protocols.base import ItemScore, Summary
from refstream.evaluation.results import EvalResult
from refstream.evaluation.shards import ONE, Shard
from refstream.evaluation.stream_tasks import (
    HEADLINE,
    StreamWorld,
    TaskStream,
    score_question,
    summarize,
    usual_texts,
)
from refstream.evaluation.stream_truth import turn_truth
from refstream.evaluation.workers import FailedItems, Failure
from refstream.models.protocols import StreamPipeline

PER_STREAM = 8
"""Most questions that share a stream; each has a dialogue of its own in memory."""
MODEL, BLACK = "model", "black frames"
PERIODS_S = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
"""Of the floor that speaks by the clock; for each task the one that serves it best is taken."""
Progress = Callable[[str, int, int], None]
"""Called with what is being done, and the numbers of steps done and in all."""


class StreamEvaluation:
    """One evaluation, in memory or in a folder where it can be resumed.

    In the folder: ``model/run`` (what was said, by question), ``model/costs`` (by stream), and the same for
    the floor on black frames.

    Args:
        pipeline: Causal, answers in words.
        world: What to run it on.
        folder: Where it lies; None keeps it in memory.
        key: What the answers depend on besides the world: model, options; JSON-serialisable.
        per_stream: Most questions in one session.
        delta_s, reach_s: See ``metrics.timing``.
        shard: The part of this process.
        progress: See ``Progress``.

    Raises:
        UserError: If the pipeline gives no words, or the folder holds an evaluation of something else.
    """

    def __init__(
        self,
        pipeline: StreamPipeline,
        world: StreamWorld,
        *,
        folder: Path | None = None,
        key: Mapping[str, Any] | None = None,
        per_stream: int = PER_STREAM,
        delta_s: float = DELTA_S,
        reach_s: float = REACH_S,
        shard: Shard = ONE,
        progress: Progress | None = None,
    ) -> None:
        check_speaks(pipeline)
        if per_stream < 1:
            raise UserError(f"a stream needs at least one question, got {per_stream}")
        if folder is None and shard.world > 1:
            raise UserError("several processes can only share an evaluation that has a folder")
        self.pipeline, self.world, self.folder = pipeline, world, folder
        self.fps = rate_of(pipeline)
        self.per_stream, self.delta_s, self.reach_s = per_stream, delta_s, reach_s
        self.shard, self._progress = shard, progress
        self.key = {
            **(key or {}),
            "benchmark": f"{world.name} {world.split}",
            "questions": world.fingerprint,
            "settings": dict(world.settings),
            "turns_per_second": self.fps,
            "per_stream": per_stream,
        }
        self._ledgers: dict[tuple[str, str], Ledger] = {}

    def run(self, name: str = MODEL) -> dict[str, Record]:
        """Run the model, on black frames for ``BLACK``; wait for the other processes.

        Returns:
            By question, see ``listening.Heard.record``.

        Raises:
            FailedItems: If some streams could not be run, once all others are in the ledger.
        """
        ledger, costs = self.ledger(name, "run"), self.ledger(name, "costs")
        streams = [stream.black() if name == BLACK else stream for stream in self.world.streams]
        mine = self.shard.take(streams, lambda stream: len(stream.questions))
        done = ledger.done()
        failures = []
        for number, stream in enumerate(mine, 1):
            left = [question for question in stream.questions if question.id not in done]
            with self.shard.working_on(stream.id):
                for start in range(0, len(left), self.per_stream):
                    asks = [Ask(q.id, q.text, q.ask_s) for q in left[start : start + self.per_stream]]
                    try:
                        self._listen(stream, asks, ledger, costs)
                    except OutputError:  # the next one could not be written either
                        raise
                    except UserError as error:
                        failures.append(Failure(stream.id, str(error)))
                        break
            if self._progress is not None:
                self._progress(f"{name}: listening", number, len(mine))
        if failures:
            raise FailedItems(failures, len(mine), "listening")
        self.shard.wait(ledger, set(self.world.questions), f"{name}: listening")
        return {item: self._record(ledger, item) for item in self.world.questions}

    def score(self, records: Mapping[str, Record]) -> list[ItemScore]:
        """Score what was said, one item per question."""
        return [
            score_question(question, records[item], self.fps, delta_s=self.delta_s, reach_s=self.reach_s)
            for item, question in self.world.questions.items()
        ]

    def floors(self, records: Mapping[str, Record], *, black: bool = True) -> dict[str, Summary]:
        """Figures of what needs no understanding, at the turns of the model's run.

        silent: never a word; silence at every turn.
        periodic: the task's most frequent answer every so many seconds, as serves the task best.
        constant: the task's most frequent answer at once, in the question's turn.
        true times: the task's most frequent answer at the true times and states: what words alone are worth.
        black frames: the model, on frames without content.

        Args:
            records: Of the model.
            black: Also run the model on black frames.
        """
        usual = usual_texts(self.world)
        silent, constant, known = {}, {}, {}
        for item, question in self.world.questions.items():
            turns, text = records[item]["turns"], usual[question.task]
            silent[item] = _spoken(turns, [], text)
            constant[item] = _spoken(turns, turns[:1] if text else [], text)
            truth = turn_truth(question, turns, self.fps)
            states = zip(turns, truth.states, strict=True)
            events = [[at, text if state == "response" else None, state] for at, state in states]
            known[item] = {"turns": turns, "events": events}
        found = {
            "silent": summarize(self.score(silent)),
            "periodic": self._periodic(records, usual),
            "constant": summarize(self.score(constant)),
            "true times": summarize(self.score(known)),
        }
        if black:
            found[BLACK] = summarize(self.score(self.run(BLACK)))
        return found

    def result(self, subject: str, *, floors: bool = False) -> EvalResult:
        """All of it.

        Args:
            subject: What the model is called in the result.
            floors: Also measure the floors (the model runs once more, on black frames).
        """
        records = self.run()
        items = self.score(records)
        return EvalResult(
            benchmark=self.world.name,
            split=self.world.split,
            protocol=f"timing at +-{self.delta_s:g} s",
            headline=HEADLINE,
            subject=subject,
            settings={
                **self.world.settings,
                "turns_per_second": self.fps,
                "delta_s": self.delta_s,
                "reach_s": self.reach_s,
            },
            summary=summarize(items),
            items=items,
            expected={"streams": len(self.world.streams), "questions": len(self.world.questions)},
            floors=self.floors(records) if floors else {},
        )

    def ledger(self, name: str, kind: str) -> Ledger:
        """The ledger of a run: "run" or "costs"."""
        if (name, kind) not in self._ledgers:
            if self.folder is None:
                self._ledgers[name, kind] = MemoryLedger()
            else:
                folder = self.folder / name.replace(" ", "_") / kind
                self._ledgers[name, kind] = FolderLedger(folder, self.key)
        return self._ledgers[name, kind]

    def _listen(self, stream: TaskStream, asks: list[Ask], ledger: Ledger, costs: Ledger) -> None:
        def finish(heard: Heard) -> None:
            ledger.write(heard.ask.id, heard.record())

        cost = listen(self.pipeline, stream.frames(self.fps), asks, finish, fps=self.fps)
        costs.write(asks[0].id, {"item": asks[0].id, **asdict(cost)})

    def _record(self, ledger: Ledger, item: str) -> Record:
        record = ledger.read(item)
        if record is None or record["text"] != self.world.questions[item].text:
            raise UserError(f"the run's record of {item} is lost or of another question; use --fresh")
        return record

    def _periodic(self, records: Mapping[str, Record], usual: Mapping[str, str]) -> Summary:
        best: dict[str, tuple[float, list[ItemScore]]] = {}
        for period in PERIODS_S:
            spoken = {}
            for item, question in self.world.questions.items():
                turns, text = records[item]["turns"], usual[question.task]
                spoken[item] = _spoken(turns, _every(turns, period) if text else [], text)
            items = self.score(spoken)
            for task, values in summarize(items).items():
                own = [item for item in items if item.group == task]
                if own and values["f1"] > best.get(task, (-1.0, []))[0]:
                    best[task] = (values["f1"], own)
        return summarize([item for _, items in best.values() for item in items])


def _spoken(turns: list[float], times: list[float], text: str) -> Record:
    """A record of something that says one thing at some of the turns, and is silent at the others."""
    events = [[at, text, "response"] if at in times else [at, None, "silence"] for at in turns]
    return {"turns": turns, "events": events}


def _every(turns: list[float], period_s: float) -> list[float]:
    """The first turn at or after each multiple of a period after the first turn."""
    times, due = [], turns[0] + period_s
    for at in turns:
        if at >= due - 1e-6:
            times.append(at)
            due = at + period_s
    return times
