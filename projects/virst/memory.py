"""TDAU's memory: alpha anchor maps, the P most recent frames, and object pointers, in bounded space.

A frame that is not an anchor attends to

* the maps of alpha anchors, all at the last row of the temporal table: the nearest ones, also of the future
  (``anchors="nearest"``, the released code), or the most recent ones (``anchors="recent"``, paper, causal);
* the maps of the P frames before it, row r - 1 for r frames ago. The slot of a selected anchor stays empty;
  an anchor that was not selected counts as an ordinary frame;
* the pointers of the selected anchors (of the past only, unless ``future_pointers``), then of up to
  ``max_pointers`` - 1 frames before it, at their signed distance over ``min(T, max_pointers) - 1``.

Source: VIRST (CVPR 2026, arXiv 2603.27060), Temporal Dynamic Anchor Updater; what the paper leaves open is
as in the released code (AIDASLab/VIRST 954276f, ``model/sam2/modeling/sam2_base.py``).
"""

from __future__ import annotations

from dataclasses import replace

import torch

from refstream.errors import UserError
from refstream.models.segmenter.memory import MEMORIES, MemoryEntry, Sam2Memory, closest

ANCHORS = ("nearest", "recent")
MAP_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, None: None}


@MEMORIES.register_module(name="tdau")
class AnchorMemory(Sam2Memory):
    """Anchors are the conditioning frames of SAM2's bank.

    What no frame from the present on can read is forgotten, exactly: nothing else changes what is read. The
    present is the newest tracked frame ("nearest", where anchors may lie ahead) or the newest frame
    ("recent"). So a stream that sets its anchors on the way needs "recent"; "nearest" keeps every anchor that
    lies ahead, as many as the clip was given.

    Args:
        alpha: How many anchors a frame attends to, 3 in paper and release; None: all, which is unbounded.
        num_recent: P, frames before the present one that are attended to (6).
        anchors: "nearest" or "recent", see above. "recent" takes frames in order of time; only the first
            anchor may come before its time (training clips begin before it), and frames before it see it.
        max_pointers: Most pointers of frames before the present one, plus one (16 in SAM2).
        known_num_frames: T, if it is known and the distance of pointers is to be divided by it.
        future_pointers: Attend to pointers of selected anchors ahead, too (the release while training).
        blank_absent: Blank the mask of an object with score <= 0 in the prediction. False leaves it a
            gradient; the memory is made from the blank mask in any case, see ``tracker.Tracker``.
        map_dtype: "bfloat16" (the release at inference), "float32", or None: as computed (in training).

    Raises:
        UserError: For values out of range.
    """

    def __init__(
        self,
        alpha: int | None = 3,
        num_recent: int = 6,
        anchors: str = "nearest",
        max_pointers: int = 16,
        known_num_frames: int | None = None,
        future_pointers: bool = False,
        blank_absent: bool = True,
        map_dtype: str | None = "bfloat16",
    ) -> None:
        lowest = {"alpha": (alpha, 1), "num_recent": (num_recent, 0), "max_pointers": (max_pointers, 1)}
        lowest["known_num_frames"] = (known_num_frames, 1)
        for name, (value, least) in lowest.items():
            if value is not None and value < least:
                raise UserError(f"{name} must be at least {least}, got {value}")
        if anchors not in ANCHORS:
            raise UserError(f"anchors must be one of {ANCHORS}, got {anchors!r}")
        if anchors == "recent" and alpha is None:
            raise UserError("anchors='recent' needs a number alpha of anchors, got None (all of them)")
        if map_dtype not in MAP_DTYPES:
            raise UserError(f"map_dtype must be one of {tuple(MAP_DTYPES)}, got {map_dtype!r}")
        super().__init__(
            num_maps=num_recent + 1,
            max_pointers=max_pointers,
            max_cond_frames=alpha,
            known_num_frames=known_num_frames,
            future_pointers=future_pointers,
            blank_absent=blank_absent,
            hard_prompted_masks=False,  # the release remembers anchors by their probabilities, too
        )
        self.anchors = anchors
        self.map_dtype = MAP_DTYPES[map_dtype]
        self._opened = False
        self._clock = -1

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self._opened, self._clock = False, -1

    def write(self, entry: MemoryEntry) -> None:
        """Keep an entry; an earlier one of the same frame is replaced.

        Raises:
            UserError: If ``anchors="recent"`` and the frame is older than one that came before.
        """
        if self.anchors == "recent" and self._opened:
            if entry.frame_index < self._clock:
                raise UserError(
                    "anchors='recent' takes frames in order of time: after frame "
                    f"{self._clock} came frame {entry.frame_index}; process the clip with order='time', or "
                    "use anchors='nearest' to let a frame see anchors of its future"
                )
            self._clock = entry.frame_index
        self._opened = True
        super().write(entry)

    def select(self, frame_index: int) -> dict[int, MemoryEntry]:
        """The alpha anchors that a frame attends to, by frame."""
        known = self._conditioning
        if self.anchors == "recent":
            known = {t: entry for t, entry in known.items() if t <= frame_index} or known
        return closest(known, frame_index, self.max_cond_frames)

    def forget(self) -> None:
        """Drop anchors that no frame from the present on selects, once they have left the window, too.

        That is so as soon as alpha others lie between them and the present. The newest of them stays as
        a pointer: up to alpha anchors are read in the order of writing, more in the order of choice.
        """
        if self.max_cond_frames is None:
            return
        present = self._clock if self.anchors == "recent" else max(self._recent, default=-1)
        past = sorted((t for t in self._conditioning if t < present), reverse=True)
        for place, t in enumerate(past[self.max_cond_frames :]):
            if place > 0 and t <= present - max(self.max_pointers, self.num_maps):
                del self._conditioning[t]
            elif t <= present - self.num_maps:
                self._conditioning[t] = replace(self._conditioning[t], features=None)
