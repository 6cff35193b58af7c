"""What training sees and what the model makes of it, as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.hooks import Hook

from refstream.data.collate import ClipBatch
from refstream.engine.hooks.common import aside, require_whole, training_model
from refstream.evaluation.run import segment_clip
from refstream.files import write_png
from refstream.registry import HOOKS
from refstream.streaming.overlay import PALETTE, blend_masks, outline_mask, text_strip

TRUTH = PALETTE[7]  # white; predictions have the first colour
FPS = 10.0  # of clips whose own rate a batch does not tell; no mask depends on it


@HOOKS.register_module()
class PictureHook(Hook):
    """Write ``pictures/iter_00000500.png``: clips of the training batch, the truth and the prediction.

    Each row is one expression of a clip, streamed through the model's own pipeline in eval mode: the frames
    with the predicted mask filled and the true one outlined in white, below them the words, the IoU and the
    sample's id. Training goes on as if no picture had been made.

    Args:
        interval: Iterations between two sheets.
        num_clips: Most rows: as many clips, the first expression of each.
        num_frames: Most frames of a row, spread evenly over the clip.
        width: Of a frame, in pixels.
    """

    priority = "LOW"

    def __init__(
        self, interval: int = 500, num_clips: int = 4, num_frames: int = 5, width: int = 240
    ) -> None:
        if min(interval, num_clips, num_frames, width) < 1:
            raise ValueError(
                "interval, num_clips, num_frames and width must be positive, got "
                f"{interval}, {num_clips}, {num_frames} and {width}"
            )
        self.interval = interval
        self.num_clips, self.num_frames, self.width = num_clips, num_frames, width

    def before_train(self, runner: Any) -> None:
        """Refuse divided parameters, see ``require_whole``."""
        require_whole(runner, self)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Draw if it is time and the batch has masks; the first process draws."""
        if runner.rank != 0 or not self.every_n_train_iters(runner, self.interval):
            return
        batch: ClipBatch = data_batch["batch"]
        if not batch.masks:
            return
        training = training_model(runner)
        with aside(training):
            sheet = draw_batch(training.model, batch, self.num_clips, self.num_frames, self.width)
        write_png(Path(runner.work_dir) / "pictures" / f"iter_{runner.iter + 1:08d}.png", sheet)


def draw_batch(model: Any, batch: ClipBatch, num_clips: int, num_frames: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: a row per clip, see ``PictureHook``; clips without expressions have none."""
    index = batch.clip_index.tolist()
    firsts = [index.index(clip) for clip in dict.fromkeys(index)][:num_clips]
    rows = []
    for n in firsts:
        frames, truth, words = batch.frames[index[n]], batch.masks[n].numpy(), batch.expressions[n]
        found = segment_clip(model.pipeline(), frames, [words], FPS)[0]
        union = (found | truth).sum()
        iou = (found & truth).sum() / union if union else 1.0
        shown = np.unique(np.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round().astype(int))
        tiles = [_tile(frames[t], found[t], truth[t], width) for t in shown]
        picture = np.concatenate(tiles, axis=1)
        rows += [picture, text_strip(f"{words}   IoU {iou:.2f}   {batch.ids[n]}", picture.shape[1])]
    wide = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, wide - row.shape[1]), (0, 0))) for row in rows])


def _tile(frame: np.ndarray, found: np.ndarray, truth: np.ndarray, width: int) -> np.ndarray:
    """One frame at the wanted width: the prediction filled, the truth outlined."""
    size = (width, max(1, round(frame.shape[0] * width / frame.shape[1])))

    def resized(mask: np.ndarray) -> np.ndarray:
        return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0

    how = cv2.INTER_AREA if width < frame.shape[1] else cv2.INTER_LINEAR
    picture = np.asarray(cv2.resize(frame, size, interpolation=how), dtype=np.uint8)
    return outline_mask(blend_masks(picture, [resized(found)]), resized(truth), TRUTH)
