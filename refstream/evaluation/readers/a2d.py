"""A2D-Sentences: clips of actors, each with a sentence; three to five frames of a clip are annotated.

Source: Gavrilyuk et al., "Actor and Action Video Segmentation from a Sentence" (CVPR 2018); lists and the
COCO form of the truth as mttr2021/MTTR makes them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from refstream.data.datasets.reading import LeftOut, dataset_root
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.readers.a2d_files import (
    ANNOTATIONS,
    FRAMES,
    SENTENCES,
    Sample,
    StoredInstances,
    read_list,
    read_sentences,
    split_videos,
)
from refstream.evaluation.readers.sentence_clips import WINDOW, CocoTruth, check_window, clip
from refstream.video import open_video

log = logging.getLogger(__name__)
TRUTH = "a2d_sentences_test_annotations_in_coco_format.json"
CLIPS = ("Release/clips320H", "Release/CLIPS320")
SAMPLE_ID = re.compile(r"v_(.+)_f_(\d+)_i_(\d+)")
FPS = 24.0  # assumed: the lists do not say it, and clips of YouTube differ


class A2DBenchmark(MaskBenchmark):
    """The test split: a clip per annotated frame, which ends there, an expression per described instance.

    Expressions are called as the public files call samples, ``v_<video>_f_<frame>_i_<instance>``. Which
    samples there are is taken from the first of these that is there: the prepared list, the COCO form of the
    truth, the official annotations of the videos in the test part. Masks come from the COCO form, else from
    the official annotations. Rows of the text file without a proper instance are dropped, as the public
    readers do, and named in ``settings["left_out"]``.

    Args:
        root: Holds ``Release/clips320H/*.mp4`` and ``text_annotations/a2d_annotation.txt``; and the COCO form
            of the truth ``a2d_sentences_test_annotations_in_coco_format.json``, or
            ``text_annotations/a2d_annotation_with_instances/<video>/<frame>.h5``; possibly the prepared list
            ``a2d_sentences_single_frame_test_annotations.json``.
        window: Most frames of a clip; None: from the clip's first frame on.

    Raises:
        UserError: If files are missing, of another form, or disagree.
    """

    name = "a2d"
    split = "test"

    def __init__(self, root: str | Path = "data/a2d_sentences", window: int | None = WINDOW) -> None:
        check_window(window)
        self.root = dataset_root(root, f"{SENTENCES}, {CLIPS[0]}/ and {TRUTH} or {ANNOTATIONS}/")
        self.left_out = LeftOut()
        coded = self.root / TRUTH
        self._coded = CocoTruth(coded) if coded.is_file() else None
        self._stored = StoredInstances(self.root / ANNOTATIONS)
        samples = self._samples()
        self.settings = {"window": window, "left_out": self.left_out.report()}
        self._clip_of: dict[str, str] = {}
        self.videos = self._videos_of(samples, window)

    def images(self, video: EvalVideo) -> Iterator[np.ndarray]:
        """The frames of the window.

        A clip that ends too early is prolonged by its last frame, with a warning; the public readers do so
        without one.
        """
        path = self._clip_path(self._clip_of[video.id])
        first, last = int(video.frames[0]), int(video.frames[-1])
        image: np.ndarray | None = None
        number = 0
        with open_video(path) as source:
            for number, frame in enumerate(source, start=1):
                image = frame.image
                if video.size is not None and image.shape[:2] != video.size:
                    raise UserError(f"{path} has frames of {image.shape[:2]}, masks of {video.size}")
                if number >= first:
                    yield image
                if number == last:
                    return
        assert image is not None  # a video without a frame is an error of open_video
        log.warning("%s ends with frame %d; it stands for frames up to %d", path, number, last)
        for _ in range(last - max(number, first - 1)):
            yield image

    def truth(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray:
        """(1, H, W) bool."""
        if self._coded is not None:
            return self._coded.mask(expression.id)[None]
        frame, instance = int(video.frames[-1]), expression.details["instance"]
        return self._stored.mask(self._clip_of[video.id], frame, instance)[None]

    def files(self) -> Iterable[Path]:
        places = [self.root / FRAMES, self.root / SENTENCES, self.root / TRUTH]
        if self._coded is None:
            named = ((self._clip_of[video.id], int(video.frames[-1])) for video in self.videos)
            places += [self._stored.path(name, frame) for name, frame in named]
        return [path for path in places if path.is_file()]

    def _samples(self) -> list[Sample]:
        prepared = self.root / FRAMES
        if prepared.is_file():
            samples = read_list(prepared)
        elif self._coded is not None:
            texts = read_sentences(self.root / SENTENCES, self.left_out)
            samples = [self._coded_sample(name, texts) for name in self._coded.sizes]
        else:
            videos = split_videos(self.root, "test")
            texts = read_sentences(self.root / SENTENCES, self.left_out)
            described = [(video, i, text) for (video, i), text in texts.items() if video in videos]
            samples = [
                Sample(text, video, frame, instance)
                for video, instance, text in described
                for frame in self._stored.frames_of(video, instance)
            ]
        ids = {sample.id for sample in samples}
        if not samples or len(ids) < len(samples):
            count = f"{len(samples)} with {len(ids)} names"
            raise UserError(f"{self.root}: expected samples that differ, got {count}")
        if self._coded is not None and ids != set(self._coded.sizes):
            differing = sorted(ids ^ set(self._coded.sizes))
            raise UserError(
                f"{prepared} and {self._coded.path} disagree about {len(differing)} samples "
                f"({', '.join(differing[:5])}); are they of one split?"
            )
        return samples

    def _coded_sample(self, name: str, texts: dict[tuple[str, int], str]) -> Sample:
        match = SAMPLE_ID.fullmatch(name)
        if match is None:
            raise UserError(
                f"{self.root / TRUTH}: expected samples v_<video>_f_<frame>_i_<instance>, got {name}"
            )
        video, frame, instance = match[1], int(match[2]), int(match[3])
        if (video, instance) not in texts:
            raise UserError(f"{self.root / SENTENCES} has no sentence for sample {name} of {TRUTH}")
        return Sample(texts[video, instance], video, frame, instance)

    def _videos_of(self, samples: list[Sample], window: int | None) -> list[EvalVideo]:
        frames: dict[tuple[str, int], list[Sample]] = {}
        for sample in samples:
            frames.setdefault((sample.video, sample.frame), []).append(sample)
        videos = []
        for (name, frame), members in frames.items():
            expressions = tuple(
                EvalExpression(sample.id, sample.text, details={"instance": sample.instance})
                for sample in members
            )
            size = None if self._coded is None else self._coded.sizes[members[0].id]
            video = clip(f"v_{name}_f_{frame}", frame, window, expressions, size, FPS)
            self._clip_of[video.id] = name
            videos.append(video)
        return videos

    def _clip_path(self, name: str) -> Path:
        places = [self.root / folder / f"{name}.mp4" for folder in CLIPS]
        for place in places:
            if place.is_file():
                return place
        raise UserError(f"no clip at {places[0]} nor at {places[1]}")
