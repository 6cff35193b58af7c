"""Benchmarks and predictions straight from the files of the golden cases."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refstream.data.rle import decode, decode_clip, encode
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Prediction

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
Codes = dict[str, Any]


def load(case: str, name: str) -> Any:
    return json.loads((GOLDEN / case / name).read_text(encoding="utf-8"))


def runs(case: str) -> list[dict[str, Any]]:
    found = load(case, "case.json")["runs"]
    assert found
    return found


class CodedBenchmark(MaskBenchmark):
    """Masks by annotation id; the annotation ids of an expression are in its details.

    Args:
        videos: What is asked.
        masks: Annotation id -> code or None per frame.
        sizes: Video -> (H, W).
    """

    name = "coded"
    split = "golden"

    def __init__(
        self, videos: Sequence[EvalVideo], masks: Mapping[str, Any], sizes: Mapping[str, tuple[int, int]]
    ) -> None:
        self.videos, self.settings = videos, {}
        self.masks, self.sizes = masks, sizes
        self.foregrounds: Mapping[str, Any] = {}

    def images(self, video: EvalVideo) -> Iterator[np.ndarray]:
        raise NotImplementedError

    def instance_sum(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray:
        size = self.sizes[video.id]
        total = np.zeros((len(video.frames), *size), dtype=np.uint8)
        for anno_id in expression.details["anno_id"]:
            total += decode_clip(self.masks[str(anno_id)], size)
        return total

    def truth(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray | None:
        return self.instance_sum(video, expression) > 0

    def foreground(self, video: EvalVideo) -> np.ndarray:
        frames = self.foregrounds[video.id]["masks_rle"]
        return np.stack([decode(frame[0] if isinstance(frame, list) else frame) for frame in frames])


class CodedPredictions:
    """``prediction_masks`` of a golden file after some edits; masks of another size are refused."""

    fingerprint = "golden"

    def __init__(self, content: Codes, edits: Sequence[Sequence[Any]] = ()) -> None:
        self.content = copy.deepcopy(content)
        for kind, video, *where in edits:
            if kind == "drop_video":
                del self.content[video]
            elif kind == "drop_expression":
                del self.content[video][where[0]]
            elif kind == "drop_frame":
                self.content[video][where[0]]["prediction_masks"][where[1]] = None
            elif kind == "half_size":
                codes = self.content[video][where[0]]["prediction_masks"]
                codes[:] = [encode(np.ascontiguousarray(decode(code)[::2, ::2])) for code in codes]
            else:
                raise AssertionError(kind)

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        entry = self.content.get(video.id, {}).get(expression.id)
        if entry is None:
            return None
        codes = entry["prediction_masks"]
        if any(code is not None and tuple(code["size"]) != size for code in codes):
            raise UserError(f"predictions.json: {video.id}, {expression.id}: masks are not of size {size}")
        missing = tuple(position for position, code in enumerate(codes) if code is None)
        return Prediction(decode_clip(codes, size), missing)


def sizes_of(meta: Codes, masks: Mapping[str, Any], predictions: Codes) -> dict[str, tuple[int, int]]:
    """(H, W) of each video, from any code that is there."""
    sizes = {}
    for name, video in meta["videos"].items():
        truths = [masks[str(a)] for e in video["expressions"].values() for a in e.get("anno_id", ())]
        answers = [entry["prediction_masks"] for entry in predictions.get(name, {}).values()]
        codes = (code for codes in [*truths, *answers] for code in codes if code is not None)
        height, width = next(codes)["size"]
        sizes[name] = (height, width)
    return sizes


def mevis() -> CodedBenchmark:
    meta, masks = load("mevis", "meta_expressions.json"), load("mevis", "mask_dict.json")
    videos = [
        EvalVideo(
            name,
            tuple(video["frames"]),
            tuple(
                EvalExpression(key, e["exp"], details={"anno_id": e["anno_id"]})
                for key, e in video["expressions"].items()
            ),
        )
        for name, video in meta["videos"].items()
    ]
    return CodedBenchmark(videos, masks, sizes_of(meta, masks, load("mevis", "predictions.json")))


def davis17(numbered_by: Any = str) -> CodedBenchmark:
    """Ref-DAVIS17, as if its masks were numbered with expressions sorted by this key; right is ``str``."""
    case = "davis17_expressions"
    meta, masks = load(case, "meta_expressions.json"), load(case, "mask_dict.json")
    count, videos = 0, []
    for name in sorted(meta["videos"]):
        content = meta["videos"][name]["expressions"]
        numbers = {key: count + i for i, key in enumerate(sorted(content))}
        taken_for = dict(zip(sorted(content), sorted(content, key=numbered_by), strict=True))
        count += len(content)
        expressions = [
            EvalExpression(
                key,
                e["exp"],
                group=f"annotator {int(key) % 4}",
                details={
                    "anno_id": [numbers[taken_for[key]]],
                    "annotator": int(key) % 4,
                    "object": int(e["obj_id"]),
                },
            )
            for key, e in content.items()
        ]
        videos.append(EvalVideo(name, tuple(meta["videos"][name]["frames"]), tuple(expressions)))
    return CodedBenchmark(videos, masks, sizes_of(meta, masks, load(case, "predictions.json")))


def revos() -> CodedBenchmark:
    meta, masks = load("revos", "meta_expressions_valid_.json"), load("revos", "mask_dict.json")
    types = {0: "referring", 1: "reasoning", 2: "other"}
    videos = [
        EvalVideo(
            name,
            tuple(video["frames"]),
            tuple(
                EvalExpression(key, e["exp"], types[e["type_id"]], {"anno_id": e["anno_id"]})
                for key, e in video["expressions"].items()
            ),
        )
        for name, video in meta["videos"].items()
    ]
    sizes = {name: (video["height"], video["width"]) for name, video in meta["videos"].items()}
    benchmark = CodedBenchmark(videos, masks, sizes)
    benchmark.foregrounds = load("revos", "mask_dict_foreground.json")
    return benchmark
