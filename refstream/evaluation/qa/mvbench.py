"""MVBench: 20 tasks of 200 multiple-choice questions each, on short clips.

Source: OpenGVLab/MVBench (arXiv 2311.17005) and ``video_chat2/mvbench.ipynb`` of OpenGVLab/Ask-Anything. One
list per task, ``json/<task>.json``: ``{"video", "question", "candidates", "answer"}`` with the answer's
text; five tasks add ``start`` and ``end`` in seconds, between which a model may look. Episodic reasoning
comes as folders of frames at 3 frames per second. Options are lettered "(A) ..."; the prompt is worded here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from refstream.data.datasets.reading import relative_path
from refstream.errors import UserError
from refstream.evaluation.qa.base import LETTERS, QABenchmark, Question
from refstream.evaluation.qa.scoring import Mark, StrictScorer
from refstream.evaluation.qa.tables import Row, read_rows, strings, take

TASKS: dict[str, str] = {
    "action_sequence": "star/Charades_v1_480",
    "action_prediction": "star/Charades_v1_480",
    "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480",
    "object_shuffle": "perception/videos",
    "moving_direction": "clevrer/video_validation",
    "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video",
    "action_count": "perception/videos",
    "moving_count": "clevrer/video_validation",
    "moving_attribute": "clevrer/video_validation",
    "state_change": "perception/videos",
    "fine_grained_pose": "nturgbd",
    "character_order": "perception/videos",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "counterfactual_inference": "clevrer/video_validation",
}
"""Task -> folder of its videos, below ``video/``."""
BOUNDED = frozenset(
    {
        "action_sequence",
        "action_prediction",
        "object_interaction",
        "action_localization",
        "episodic_reasoning",
    }
)
FRAMES_FPS = 3.0
PROMPT = (
    "Question: {question}\nOptions:\n{options}\n"
    "Look at how things move and change in the video. Answer with the letter of the right option alone."
)


class MVBench(QABenchmark):
    """The public questions.

    Args:
        root: Holds ``json/<task>.json`` and ``video/<folder>/<video>``.
        tasks: Only these; all twenty by default.

    Raises:
        UserError: If a file is missing or a question is not as described; names it.
    """

    name = "mvbench"

    def __init__(
        self, root: str | Path = "data/video_qa/mvbench", *, tasks: Sequence[str] | None = None
    ) -> None:
        self.root = Path(root)
        wanted = tuple(TASKS) if tasks is None else tuple(tasks)
        unknown = [task for task in wanted if task not in TASKS]
        if unknown or not wanted:
            raise UserError(f"MVBench has the tasks {', '.join(TASKS)}; got {', '.join(unknown) or 'none'}")
        self.questions = [question for task in wanted for question in self._read(task)]
        self.settings = {"tasks": list(wanted)}

    def video_path(self, question: Question) -> Path:
        return self.root / "video" / TASKS[question.task] / question.video

    def video_fps(self, question: Question) -> float | None:
        return FRAMES_FPS if question.task == "episodic_reasoning" else None

    def _read(self, task: str) -> Iterator[Question]:
        path = self.root / "json" / f"{task}.json"
        for index, row in enumerate(read_rows(path)):
            where = f"{path}, question {index}"
            options = strings(row, "candidates", where)
            answer = take(row, "answer", str, where)
            if answer not in options:
                raise UserError(f"{where}: the answer {answer[:60]!r} is none of the candidates")
            text = take(row, "question", str, where)
            start, end = _bounds(row, where) if task in BOUNDED else (0.0, None)
            yield Question(
                id=f"{task}/{index}",
                video=relative_path(row.get("video"), f"{where}, video"),
                prompt=PROMPT.format(question=text, options=_listed(options)),
                answer=LETTERS[options.index(answer)],
                kind="choice",
                task=task,
                groups={"task": task},
                text=text,
                options=options,
                start_s=start,
                end_s=end,
            )


class MVBenchOfficial(StrictScorer):
    """The authors' ``check_ans``: the first word of the answer, in small letters and without full stops,
    must be part of "(a)", or hold it.

    So "a", "(A)" and "A." count, "A) ..." as well; "the answer is A" does not; and an empty answer or "("
    counts as right: known defects, kept here.
    """

    name = "official"
    rule = "the authors' rule: the first word of the answer is part of '(a)' or holds it; mean over questions"

    def mark(self, question: Question, answer: Any) -> Mark:
        if not isinstance(answer, str):
            return Mark(0.0)
        said = answer.lower().split(" ")[0]
        truth = f"({str(question.answer).lower()})"
        return Mark(float(said.replace(".", "") in truth or truth in said), said)


def _listed(options: Sequence[str]) -> str:
    return "\n".join(f"({LETTERS[i]}) {option}" for i, option in enumerate(options))


def _bounds(row: Row, where: str) -> tuple[float, float]:
    start, end = (float(take(row, key, (int, float), where)) for key in ("start", "end"))
    if not 0 <= start <= end:
        raise UserError(f"{where}: expected 0 <= start <= end in seconds, got {start} and {end}")
    return start, end
