"""What guess and check saves: passes of the language model and time, against a token per pass.

python -m refstream_projects.spot.decoding_cost MODEL --out FILE
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refstream.errors import UserError
from refstream.evaluation.provenance import provenance
from refstream.files import write_json
from refstream.models.loading import load
from refstream.registry import import_methods
from refstream.synthetic.minirvos import MiniRVOS

from .reader import DECODING, Reading, SpotReader

WAYS = (*DECODING, "guess, each frame alone")

Clip = tuple[list[Tensor], list[str]]  # vision tokens of its frames, and its expressions


def decoding_cost(
    model: Any, *, clips: int = 4, frames: int = 8, rounds: int = 3, side_by_side: Sequence[int] = (1, 3)
) -> dict[str, Any]:
    """Read the first frames of MiniRVOS's test clips in all ways, which take turns.

    Args:
        model: Composite whose pipeline is "SPOT" with its dialogue reader.
        clips: Clips.
        frames: Frames of each.
        rounds: Counted rounds, after one that is not.
        side_by_side: Numbers of expressions that are read together; of a clip with fewer some come again.

    Returns:
        ``rows``: of each number and way, "passes per look" of both rounds together, those of "round 1", those
        "per box" in round 2, "ms per look" (median over rounds) and "boxes". ``ratios`` of passes and time,
        one by one over guesses. ``same_words``: the share of answers that are the same as one by one.
        ``largest_difference`` of a probability among them.

    Raises:
        UserError: If there is nothing to measure, or the model does not read by dialogue.
    """
    if min(clips, frames, rounds, *side_by_side) < 1:
        raise UserError("decoding_cost needs clips, frames, rounds and expressions")
    seen = _clips(model, clips, frames)
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    same: list[bool] = []
    differences = [0.0]
    for number in side_by_side:
        runs = {way: _Run(model, way) for way in WAYS}
        for turn in range(rounds + 1):
            for run in runs.values():
                run(seen, number, counted=turn > 0)
        rows += [dict(decoding=way, expressions=number, **run.row(seen, number)) for way, run in runs.items()]
        alone, guess = runs["one_by_one"], runs["guess"]
        name = f"{number} expression{'s' * (number > 1)}"
        ratios[f"passes, {name}"] = round(alone.passes / guess.passes, 3)
        ratios[f"time, {name}"] = round(alone.median / guess.median, 3)
        for run in runs.values():
            for one, other in zip(run.heard, alone.heard, strict=True):
                same.append(_words(one) == _words(other))
                if same[-1]:
                    pairs = zip(one.objects, other.objects, strict=True)
                    differences += [float((a.p_yes - b.p_yes).abs().max()) for a, b in pairs]
    largest = max(differences)
    return dict(rows=rows, ratios=ratios, same_words=sum(same) / len(same), largest_difference=largest)


class _Run:
    """One way of reading all clips.

    Attributes:
        seconds: Of every counted round.
        heard: Of the last round, look by look.
        passes: Likewise.
        rounds_of_points: Second rounds in it, those of several expressions side by side being one.
    """

    def __init__(self, model: Any, way: str) -> None:
        self.model, self.together = model, way in DECODING
        self.decoding = way if self.together else "guess"
        self.reader = self._reader()
        self.seconds: list[float] = []

    def _reader(self, **keys: Any) -> SpotReader:
        reader = self.model.pipeline(decoding=self.decoding, **keys).reader
        if not isinstance(reader, SpotReader):
            raise UserError("only a reader of words decodes: set reader='dialogue'")
        return reader

    @torch.inference_mode()
    def __call__(self, clips: Sequence[Clip], number: int, *, counted: bool) -> None:
        start = time.perf_counter()
        self.heard, self.passes, self.rounds_of_points = self._read(self.reader, clips, number)
        if self.model.mllm.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds += [time.perf_counter() - start] if counted else []

    def _read(self, reader: SpotReader, clips: Sequence[Clip], number: int) -> tuple[list[Reading], int, int]:
        heard: list[Reading] = []
        passes = rounds = 0
        for images, said in clips:
            before: list[Reading] | None = None
            for image in images:
                expressions = [said[k % len(said)] for k in range(number)]
                readings = reader.read(image, expressions, before)
                before = readings if self.together else None
                heard += readings
                passes += reader.passes
                rounds += max(len(one.objects) for one in readings)
        return heard, passes, rounds

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @torch.inference_mode()
    def row(self, clips: Sequence[Clip], number: int) -> dict[str, Any]:
        """Its figures."""
        looks = sum(len(images) for images, _ in clips)
        first = self._read(self._reader(points=False), clips, number)[1]
        second = (self.passes - first) / self.rounds_of_points if self.rounds_of_points else None
        return {
            "passes per look": round(self.passes / looks, 2),
            "round 1": round(first / looks, 2),
            "per box": None if second is None else round(second, 2),
            "ms per look": round(1000 * self.median / looks, 2),
            "boxes": sum(len(one.objects) for one in self.heard),
        }


@torch.inference_mode()
def _clips(model: Any, clips: int, frames: int) -> list[Clip]:
    found: list[Clip] = []
    for clip in MiniRVOS("test", 0, clips):
        images = [model.vision_tokens([image])[0] for image in clip.frames[:frames]]
        found.append((images, [one.text for one in clip.expressions]))
    return found


def _words(reading: Reading) -> tuple[str, list[list[bool]]]:
    """All that was said."""
    return reading.text, [(one.p_yes >= one.p_no).tolist() for one in reading.objects]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--expressions", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    import_methods()
    model = load(args.model, device=args.device)
    keys = dict(clips=args.clips, frames=args.frames, rounds=args.rounds, side_by_side=args.expressions)
    result = decoding_cost(model, **keys)
    given = " ".join(sys.argv[1:] if arguments is None else arguments)
    command = f"python -m refstream_projects.spot.decoding_cost {given}"
    write_json(args.out, {**provenance([0]), "command": command, **result})
    for row in result["rows"]:
        sys.stdout.write(", ".join(f"{key} {value}" for key, value in row.items()) + "\n")


if __name__ == "__main__":
    main()
