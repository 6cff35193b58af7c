"""The one way into saved predictions: a path, whatever lies there, becomes ``Predictions``."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from refstream.errors import UserError
from refstream.evaluation.benchmark import MaskBenchmark
from refstream.evaluation.predictions.base import Predictions
from refstream.evaluation.predictions.files import is_junk, walk
from refstream.evaluation.predictions.frames import brief
from refstream.evaluation.predictions.npz import NpzFolder
from refstream.evaluation.predictions.png import PngFolder
from refstream.evaluation.predictions.rle_json import JsonFolder, open_json

KEY, RESULTS, ANNOTATIONS = "key.json", "results.json", "Annotations"
RUNS = ("", "run", "model/run")
"""Where a folder of ``refstream eval`` has its masks: the folder itself, one of its parts, the whole."""
MAX_LOOK = 20_000  # files looked at to tell what a folder holds
FORMS = f"""\
<video>/<expression id>/<frame>.png (possibly below {ANNOTATIONS}/), <video>/<expression id>.npz, \
<video>/<expression id>.json, anno_<a>/<video>/<frame>.png, a folder of `refstream eval`, or one file of RLE \
such as {RESULTS}"""


def open_predictions(path: str | Path, benchmark: MaskBenchmark) -> Predictions:
    """Open predictions; what they are is told by what is there.

    Args:
        path: A file of RLE (``rle_json``), or a folder: pictures (``png``), arrays (``npz``), a JSON per
            expression, label maps of Ref-DAVIS17 (``anno_0`` to ``anno_3``), a run of ``refstream eval``, or
            one with ``results.json`` in it.
        benchmark: What they are of.

    Raises:
        UserError: If nothing is there, or nothing that is understood; says what was found.
    """
    path = Path(path)
    if path.is_file():
        if path.suffix != ".json":
            hint = "unpack it first" if path.suffix in {".zip", ".tar", ".gz"} else f"understood are {FORMS}"
            raise UserError(f"{path}: a file of predictions must be .json; {hint}")
        return open_json(path, benchmark)
    if not path.is_dir():
        raise UserError(f"no predictions at {path}; expected {FORMS}")
    for place in RUNS:
        if _is_run(path / place):
            from refstream.evaluation.run import RunPredictions

            return RunPredictions(path / place)
    if (path / KEY).is_file():
        raise UserError(
            f"{path} is part of an evaluation, but holds no masks; they are in {RUNS[-1]} of the whole"
        )
    if any(child.is_dir() for child in path.glob("anno_*")):
        from refstream.evaluation.protocols.label_maps import LabelMapFolder

        return LabelMapFolder(path)
    return _open_tree(path, benchmark)


def _open_tree(path: Path, benchmark: MaskBenchmark) -> Predictions:
    videos = {video.id for video in benchmark.videos}
    if (path / ANNOTATIONS).is_dir() and ANNOTATIONS not in videos:
        return _open_tree(path / ANNOTATIONS, benchmark)
    if (path / RESULTS).is_file():
        return open_json(path / RESULTS, benchmark)
    found: dict[str, str] = {}  # suffix -> first file
    files = (f"{folder}/{name}" for folder, _, names in walk(path) if folder for name in names)
    for file in itertools.islice(files, MAX_LOOK):
        found.setdefault(Path(file).suffix, file)
    kinds: dict[str, Any] = {".png": PngFolder, ".npz": NpzFolder, ".json": JsonFolder}
    there = [suffix for suffix in kinds if suffix in found]
    if len(there) == 1:
        return kinds[there[0]](path)  # type: ignore[no-any-return]
    if there:
        examples = " and ".join(found[suffix] for suffix in there)
        raise UserError(f"{path} holds predictions of several forms, {examples}; expected one of {FORMS}")
    listed = sorted(child.name for child in path.iterdir() if not is_junk(child.name))
    other = brief([*found.values()] or listed)
    only = f"only {other}" if found or listed else "the folder is empty"
    raise UserError(f"{path}: no predictions found, {only}; expected {FORMS}")


def _is_run(folder: Path) -> bool:
    """Whether a folder is a ledger of masks: one of scores or costs has a key too."""
    if not (folder / KEY).is_file() or not (folder / "items").is_dir():
        return False
    for path in (folder / "items").iterdir():
        if path.suffix == ".json" and not is_junk(path.name):
            try:
                return "masks" in json.loads(path.read_bytes())
            except ValueError as error:
                raise UserError(f"{path} is not valid JSON ({error}); is the run complete?") from error
    return folder.name == "run"  # nothing is finished yet
