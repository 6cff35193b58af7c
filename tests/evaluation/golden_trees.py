"""The golden cases of the video benchmarks as the trees that readers expect, written without the package."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def load(case: str, name: str) -> Any:
    """A JSON file of a golden case."""
    return json.loads((GOLDEN / case / name).read_text(encoding="utf-8"))


def write(path: Path, content: Any) -> Path:
    """JSON, or a pickle where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_frames(images: Path, videos: dict[str, Any], sizes: dict[str, tuple[int, int]]) -> None:
    """Grey JPEGs whose value is three times their position."""
    for name, video in videos.items():
        (images / name).mkdir(parents=True, exist_ok=True)
        for position, frame in enumerate(video["frames"]):
            picture = np.full((*sizes[name], 3), 3 * position, np.uint8)
            Image.fromarray(picture).save(images / name / f"{frame}.jpg")


def write_labels(folder: Path, labels: np.ndarray, frames: list[str]) -> None:
    """(T, H, W) uint8 as palette PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame, picture in zip(frames, labels, strict=True):
        image = Image.fromarray(picture, mode="P")
        image.putpalette(list(range(256)) * 3)  # a shorter one would cut the numbers
        image.save(folder / f"{frame}.png")


def mevis_tree(root: Path, *, frames: bool = False) -> Path:
    """Split valid_u."""
    videos, masks = load("mevis", "meta_expressions.json")["videos"], load("mevis", "mask_dict.json")
    write(root / "valid_u" / "meta_expressions.json", {"videos": videos})
    write(root / "valid_u" / "mask_dict.json", masks)
    if frames:
        sizes = {name: _size(masks, _annotations(video)) for name, video in videos.items()}
        write_frames(root / "valid_u" / "JPEGImages", videos, sizes)
    return root


def revos_tree(root: Path, *, frames: bool = False, foreground: bool = True) -> Path:
    """Split valid."""
    names = ["meta_expressions_valid_.json", "mask_dict.json", "mask_dict_foreground.json"]
    for name in names[: 3 if foreground else 2]:
        write(root / name, load("revos", name))
    if frames:
        videos = load("revos", names[0])["videos"]
        sizes = {name: (video["height"], video["width"]) for name, video in videos.items()}
        write_frames(root / "JPEGImages", videos, sizes)
    return root


def davis17_tree(root: Path, *, frames: bool = False, pictures: bool = False) -> Path:
    """Split valid with a dictionary of masks (case davis17_expressions)."""
    videos = load("davis17_expressions", "meta_expressions.json")["videos"]
    masks = load("davis17_expressions", "mask_dict.json")
    write(root / "meta_expressions" / "valid" / "meta_expressions.json", {"videos": videos})
    write(root / "valid" / "mask_dict.pkl", masks)
    order = [(video, key) for video in sorted(videos) for key in sorted(videos[video]["expressions"])]
    place = {name: str(number) for number, name in enumerate(order)}
    for name, video in videos.items():
        size = _size(masks, [place[name, key] for key in video["expressions"]])
        if frames:
            write_frames(root / "valid" / "JPEGImages", {name: video}, {name: size})
        if pictures:
            labels = np.zeros((len(video["frames"]), *size), np.uint8)
            for key, entry in sorted(video["expressions"].items(), key=lambda item: int(item[0])):
                for label, code in zip(labels, masks[place[name, key]], strict=True):
                    if code is not None:
                        label[coco.decode(code) > 0] = int(entry["obj_id"])
            write_labels(root / "valid" / "Annotations" / name, labels, video["frames"])
    return root


def davis17_official_tree(root: Path) -> Path:
    """Split valid with label maps (case davis17_official): void, late labels, undescribed objects."""
    case = GOLDEN / "davis17_official"
    shutil.copytree(case / "DAVIS" / "Annotations_unsupervised" / "480p", root / "valid" / "Annotations")
    shutil.copytree(case / "DAVIS" / "JPEGImages" / "480p", root / "valid" / "JPEGImages")
    write(
        root / "meta_expressions" / "valid" / "meta_expressions.json",
        load("davis17_official", "meta_expressions.json"),
    )
    return root


def _annotations(video: dict[str, Any]) -> list[str]:
    return [str(i) for entry in video["expressions"].values() for i in entry["anno_id"]]


def _size(masks: dict[str, Any], names: list[str]) -> tuple[int, int]:
    height, width = next(code["size"] for name in names for code in masks[name] if code is not None)
    return height, width
