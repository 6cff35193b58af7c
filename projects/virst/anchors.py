"""Which frames of a clip become anchors: chosen for the whole clip (offline), or frame by frame (online).

A policy is built from a config, ``dict(type="uniform", alpha=3)``:

===============  ================  ====================================================================
``type``         works             anchors
===============  ================  ====================================================================
``uniform``      offline           alpha evenly spread frames, the first and the last among them (paper)
``release``      offline           max(1, T // 4) evenly spread frames (released code at inference)
``first_frame``  offline, online   frame 0 (ablation of the paper)
``every_k``      offline, online   0, k, 2 k, ...
``score``        online            when the mask is doubtful, or the last anchor is old
``clip``         offline           the frames that look most like the expression (ablation of the paper)
``random``       offline           min(3, T) random frames (training)
===============  ================  ====================================================================

A clip shorter than alpha: every frame is an anchor. A clip of one frame: that frame. A clip longer than the
policy's ``max_frames``: an error; ``frame_slots`` spreads a budget of frames over it.

Source: VIRST (CVPR 2026, arXiv 2603.27060); released rules: AIDASLab/VIRST 954276f, ``select_keyframes``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from mmengine.registry import Registry

from refstream.errors import UserError
from refstream.registry import GATES, SCOPE
from refstream.streaming.gates import Gate, GateDecision, GateSignals

from .clip_scores import ClipScorer

ANCHOR_POLICIES = Registry("anchor policy", scope=SCOPE)
FIRST = GateDecision(True, "first")
NUM_BEFORE, NUM_AFTER = 2, 5  # supervised neighbours of a training anchor: k - 2, k - 1, k + 1 .. k + 5


@dataclass(frozen=True)
class AnchorClip:
    """What an offline policy may look at.

    Attributes:
        num_frames: T, at least 1.
        images: T images (H, W, 3) uint8 RGB, for policies that look.
        expression: The words, for policies that read.
        rng: For policies that draw.
    """

    num_frames: int
    images: Sequence[np.ndarray] | None = None
    expression: str | None = None
    rng: np.random.Generator | None = None


class AnchorPolicy:
    """Chooses anchors; stateless.

    Args:
        max_frames: Longest clip that is accepted offline; None: any.

    Attributes:
        offline: ``choose`` works: anchors of a whole clip.
        online: ``decide`` works: one frame at a time, knowing the past only.
        needs_mask: ``decide`` judges the mask of the present frame, so it must be decoded before.
    """

    offline: bool = True
    online: bool = False
    needs_mask: bool = False

    def __init__(self, max_frames: int | None = None) -> None:
        _at_least(1, max_frames=max_frames)
        self.max_frames = max_frames

    def choose(self, clip: AnchorClip) -> tuple[int, ...]:
        """Anchors of a clip: ascending, distinct, from 0 to T - 1, at least one.

        Raises:
            UserError: If the policy works online only, or the clip is empty or too long.
        """
        if not self.offline:
            raise UserError(f"{type(self).__name__} sets anchors frame by frame: use it online")
        if clip.num_frames < 1:
            raise UserError(f"a clip needs at least one frame, got {clip.num_frames}")
        if self.max_frames is not None and clip.num_frames > self.max_frames:
            raise UserError(
                f"a clip of {clip.num_frames} frames is over the budget of {self.max_frames}: take fewer "
                "frames (frame_slots), cut the clip, or raise max_frames"
            )
        return tuple(sorted(self._choose(clip)))

    def _choose(self, clip: AnchorClip) -> Sequence[int]:
        raise NotImplementedError

    def decide(self, signals: GateSignals) -> GateDecision:
        """Whether the present frame becomes an anchor; the first frame always does.

        Args:
            signals: ``frame_index`` counts in the life of the query, ``frames_since_call`` from its last
                anchor.

        Raises:
            UserError: If the policy works offline only.
        """
        if not self.online:
            raise UserError(
                f"{type(self).__name__} must see the whole clip: use it offline, or an online policy "
                "(first_frame, every_k, score)"
            )
        return FIRST if signals.frame_index == 0 else self._decide(signals)

    def _decide(self, signals: GateSignals) -> GateDecision:
        raise NotImplementedError


@ANCHOR_POLICIES.register_module(name="uniform")
class UniformAnchors(AnchorPolicy):
    """alpha evenly spread frames: the paper's rule.

    Args:
        alpha: How many, 3 in the paper; all frames of a shorter clip.
    """

    def __init__(self, alpha: int = 3, max_frames: int | None = None) -> None:
        super().__init__(max_frames)
        _at_least(1, alpha=alpha)
        self.alpha = alpha

    def _choose(self, clip: AnchorClip) -> Sequence[int]:
        return spread(clip.num_frames, min(self.alpha, clip.num_frames))


@ANCHOR_POLICIES.register_module(name="release")
class ReleaseAnchors(AnchorPolicy):
    """max(1, T // divisor) evenly spread frames: what the released code does at inference.

    Its positions are float32: from 94 frames on, some halves are rounded otherwise than by ``spread``.

    Args:
        divisor: 4 in the release.
    """

    def __init__(self, divisor: int = 4, max_frames: int | None = None) -> None:
        super().__init__(max_frames)
        _at_least(1, divisor=divisor)
        self.divisor = divisor

    def _choose(self, clip: AnchorClip) -> Sequence[int]:
        count = max(1, clip.num_frames // self.divisor)
        return [int(t) for t in torch.linspace(0, clip.num_frames - 1, count).round().tolist()]


@ANCHOR_POLICIES.register_module(name="first_frame")
class FirstFrameAnchor(AnchorPolicy):
    """Frame 0 alone."""

    online = True

    def _choose(self, clip: AnchorClip) -> Sequence[int]:
        return [0]

    def _decide(self, signals: GateSignals) -> GateDecision:
        return GateDecision(False, "reuse")


@ANCHOR_POLICIES.register_module(name="every_k")
class EveryKAnchors(AnchorPolicy):
    """Frames 0, k, 2 k, ...

    Args:
        k: At least 1.
    """

    online = True

    def __init__(self, k: int = 8, max_frames: int | None = None) -> None:
        super().__init__(max_frames)
        _at_least(1, k=k)
        self.k = k

    def _choose(self, clip: AnchorClip) -> Sequence[int]:
        return range(0, clip.num_frames, self.k)

    def _decide(self, signals: GateSignals) -> GateDecision:
        due = signals.frames_since_call >= self.k
        return GateDecision(due, "period" if due else "reuse")


@ANCHOR_POLICIES.register_module(name="score")
class ScoreTriggeredAnchors(AnchorPolicy):
    """A frame becomes an anchor when a gate doubts the mask, or when the last anchor is ``every`` frames old.

    Neither paper nor release re-anchor on confidence; the idea is StreamingRVOS's consistency gate.

    Args:
        gate: Gate or its config. By default the mask of the frame before must reach a predicted IoU of 0.7
            and an IoU of 0.1 with the one before it (assumed: the thresholds of the StreamingRVOS paper);
            ``ConsistencyGate`` judges the tracked mask of the present frame itself, at the price of decoding
            it twice.
        every: Longest time without an anchor, in frames; None: no limit.
        cooldown: Shortest time between two anchors, in frames.
    """

    offline, online = False, True

    def __init__(
        self, gate: Gate | Mapping[str, Any] | None = None, every: int | None = None, cooldown: int = 1
    ) -> None:
        super().__init__()
        _at_least(1, every=every, cooldown=cooldown)
        if every is not None and every < cooldown:
            raise UserError(f"every must not be below cooldown, got {every} < {cooldown}")
        if gate is None:
            gate = dict(type="LaggedConsistencyGate", tau1=0.7, tau2=0.1)
        self.gate: Gate = GATES.build(dict(gate)) if isinstance(gate, Mapping) else gate
        self.needs_mask = self.gate.needs_mask
        self.every, self.cooldown = every, cooldown

    def _decide(self, signals: GateSignals) -> GateDecision:
        age = signals.frames_since_call
        if self.every is not None and age >= self.every:
            return GateDecision(True, "period")
        if age < self.cooldown:
            return GateDecision(False, "reuse")
        return self.gate.decide(signals)


@ANCHOR_POLICIES.register_module(name="clip")
class ClipGuidedAnchors(AnchorPolicy):
    """The frames whose CLIP similarity to the expression is highest, apart from each other.

    Args:
        clip: A ``ClipScorer``, or the folder of a saved CLIP model; nothing is downloaded.
        alpha: How many; all frames of a shorter clip.
        min_spacing: Least distance of two anchors in frames. None: T // (2 alpha), which always leaves room
            for alpha anchors. A larger one may leave fewer (assumed: the paper says only that CLIP chooses).
    """

    def __init__(
        self,
        clip: ClipScorer | str,
        alpha: int = 3,
        min_spacing: int | None = None,
        max_frames: int | None = None,
    ) -> None:
        super().__init__(max_frames)
        _at_least(1, alpha=alpha, min_spacing=min_spacing)
        self.scorer = clip if isinstance(clip, ClipScorer) else ClipScorer.from_pretrained(clip)
        self.alpha, self.min_spacing = alpha, min_spacing

    def _choose(self, clip: AnchorClip) -> Sequence[int]:
        if clip.images is None or clip.expression is None:
            raise UserError("CLIP-guided anchors need the images and the expression of the clip")
        if len(clip.images) != clip.num_frames:
            raise UserError(f"a clip of {clip.num_frames} frames came with {len(clip.images)} images")
        spacing = self.min_spacing
        if spacing is None:
            spacing = max(1, clip.num_frames // (2 * self.alpha))
        return best_apart(self.scorer(clip.images, clip.expression), self.alpha, spacing)


@ANCHOR_POLICIES.register_module(name="random")
class RandomAnchors(AnchorPolicy):
    """min(count, T) distinct random frames: the released rule for training.

    Args:
        count: 3 in the release.
    """

    def __init__(self, count: int = 3, max_frames: int | None = None) -> None:
        super().__init__(max_frames)
        _at_least(1, count=count)
        self.count = count

    def _choose(self, clip: AnchorClip) -> Sequence[int]:
        if clip.rng is None:
            raise UserError("random anchors need AnchorClip(..., rng=np.random.default_rng(seed))")
        drawn = clip.rng.choice(clip.num_frames, min(self.count, clip.num_frames), replace=False)
        return [int(t) for t in drawn]


@dataclass(frozen=True)
class MiniClip:
    """The part of a clip that is decoded and supervised in training.

    Attributes:
        frames: Its frames, ascending.
        anchors: Places of the anchors within ``frames``.
    """

    frames: tuple[int, ...]
    anchors: tuple[int, ...]


def mini_clip(
    anchors: Sequence[int], num_frames: int, num_before: int = NUM_BEFORE, num_after: int = NUM_AFTER
) -> MiniClip:
    """Anchors with their neighbours k - 2, k - 1, k + 1 .. k + 5 (released code), as far as the clip goes.

    Args:
        anchors: Distinct frames from 0 to T - 1.
        num_frames: T.
        num_before: Neighbours before an anchor. With both numbers 0 only the anchors remain (stages 1, 2).
        num_after: Neighbours after it.
    """
    if not anchors or min(anchors) < 0 or max(anchors) >= num_frames:
        raise UserError(f"anchors must be frames from 0 to {num_frames - 1}, got {list(anchors)}")
    wanted = {t for k in anchors for t in range(k - num_before, k + num_after + 1)}
    frames = tuple(t for t in sorted(wanted) if 0 <= t < num_frames)
    return MiniClip(frames, tuple(frames.index(k) for k in sorted(set(anchors))))


def spread(num_frames: int, count: int) -> list[int]:
    """``count`` evenly spread frames of T >= count, from 0 to T - 1; one is frame 0.

    Positions are exact fractions; halves are rounded to the even frame.
    """
    if not 1 <= count <= num_frames:
        raise UserError(f"cannot spread {count} frames over {num_frames}")
    return [round(Fraction(i * (num_frames - 1), max(count - 1, 1))) for i in range(count)]


def frame_slots(num_frames: int, budget: int) -> list[int]:
    """Frames of a clip that get a prompt: all of them, or ``budget`` evenly spread ones if there are more.

    The release draws a random subset; this one is the same every time.
    """
    _at_least(1, num_frames=num_frames, budget=budget)
    return spread(num_frames, min(num_frames, budget))


def best_apart(scores: Sequence[float], count: int, min_spacing: int) -> list[int]:
    """Up to ``count`` places of the highest scores, no two nearer than ``min_spacing``; ties: the first.

    Raises:
        UserError: If a score is not a finite number.
    """
    if not np.isfinite(np.asarray(scores, dtype=np.float64)).all():
        raise UserError(f"similarities must be finite numbers, got {list(scores)}")
    chosen: list[int] = []
    for place in sorted(range(len(scores)), key=lambda t: (-scores[t], t)):
        if len(chosen) < count and all(abs(place - other) >= min_spacing for other in chosen):
            chosen.append(place)
    return chosen


def build_anchor_policy(policy: str | Mapping[str, Any] | AnchorPolicy) -> AnchorPolicy:
    """A policy from its name or from ``dict(type=name, ...)``; a ready one is returned as it is.

    Raises:
        UserError: If there is no such policy or an argument is not one of its own.
    """
    if isinstance(policy, AnchorPolicy):
        return policy
    config = {"type": policy} if isinstance(policy, str) else dict(policy)
    name = config.pop("type", None)
    kind = ANCHOR_POLICIES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise UserError(f"unknown anchor policy {name!r}; known are {sorted(ANCHOR_POLICIES.module_dict)}")
    try:
        built: AnchorPolicy = kind(**config)
    except TypeError as error:
        raise UserError(f"anchor policy {name!r} does not accept {config}: {error}") from error
    return built


def _at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise UserError(f"{name} must be at least {least}, got {value}")
