"""The Brownian bridge over a segment: prompts between its ends are drawn to the straight line.

Source: SPOT (CVPR 2026), the bridge loss. For frames t0 ... t0 + T_s - 1 with alpha_t = (t - t0) / (T_s - 1)
and true centres c0, c1 at the ends, mu_t = (1 - alpha_t) c0 + alpha_t c1 and

    L = sum over interior t of (1/K) sum_k |P_tk - mu_t|^2 / max(alpha_t (1 - alpha_t), epsilon)

This is the negative log density of independent normals N(mu_t, sigma^2 alpha_t (1 - alpha_t) I), up to a
constant and the scale 2 sigma^2. Three things it is not, each a key here:

* It does not see jitter. A bridge is correlated in time; its own energy, ``form="joint"``, is the sum of
  |e_(t+1) - e_t|^2 / (alpha_(t+1) - alpha_t) with e = P - mu, 0 at the ends. A smooth arc and a zigzag of one
  amplitude cost the same in the paper's form, and differ 19-fold here.
* It is not only about place: (1/K) sum |P_k - mu|^2 = |mean(P) - mu|^2 + spread, and points that are a grid
  of the predicted box make it narrower. ``on="points_centred"`` is free of that.
* It does not follow the truth: mu is a line between the ends. ``mean="track"`` takes the true centre of every
  frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .geometry import box_centre, full_precision

FORMS = ("paper", "joint")
PLACES = ("points", "points_centred", "foreground_mean", "box_centre")
WEIGHTS = ("variance", "constant")
MEANS = ("endpoints", "track")
EPSILON = 1e-4  # assumed; it acts on segments longer than 1 / epsilon alone
MIN_VISIBLE = 3  # ends and one frame between them


@dataclass(frozen=True)
class BridgeFrame:
    """What the bridge asks of one object in one frame.

    Attributes:
        alpha: Place between the ends, in (0, 1).
        mean: (2,) mu, in the dtype of the true centres.
        weight: Of the squared distance.
    """

    alpha: float
    mean: Tensor
    weight: float


@dataclass(frozen=True)
class BridgePlan:
    """What the bridge asks of one object over a segment; constants.

    Attributes:
        alphas: (T,) float64 in [0, 1], NaN where a frame is left out.
        means: (T, 2); NaN where a frame is left out.
        weights: (T,) float64, 0 at the ends and where a frame is left out.
    """

    alphas: Tensor
    means: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.alphas)

    def __getitem__(self, frame: int) -> BridgeFrame | None:
        """What is asked at a frame; None at the ends and where it is left out."""
        weight = float(self.weights[frame])
        return BridgeFrame(float(self.alphas[frame]), self.means[frame], weight) if weight else None


def visible_alphas(visible: Sequence[bool] | Tensor, times: Sequence[float] | Tensor | None = None) -> Tensor:
    """Where each frame lies between the first and the last one in which the object is seen.

    An end that is empty moves inward; frames outside the ends and empty ones are left out (assumed: the paper
    does not say).

    Args:
        visible: (T,) whether the object is there.
        times: (T,) strictly increasing; None: 0, 1, 2, ...

    Returns:
        (T,) float64 in [0, 1], NaN where a frame is left out; all NaN if it is seen in less than three
        frames.

    Raises:
        ValueError: If the lengths differ, or times do not increase.
    """
    seen = torch.as_tensor(visible, dtype=torch.bool).cpu()
    when = torch.arange(len(seen)) if times is None else torch.as_tensor(times)
    when = when.to("cpu", torch.float64)
    if seen.ndim != 1 or when.shape != seen.shape:
        raise ValueError(f"need one time per frame, got {tuple(when.shape)} for {tuple(seen.shape)} frames")
    if bool((when.diff() <= 0).any()):
        raise ValueError(f"the times of a segment must increase, got {when.tolist()}")
    alphas = torch.full((len(seen),), torch.nan, dtype=torch.float64)
    at = seen.nonzero()[:, 0]
    if len(at) >= MIN_VISIBLE:
        alphas[at] = (when[at] - when[at[0]]) / (when[at[-1]] - when[at[0]])
    return alphas


def bridge_weights(alphas: Tensor, weights: str = "variance", epsilon: float = EPSILON) -> Tensor:
    """Weight of each frame's squared distance.

    Args:
        alphas: (T,) as of ``visible_alphas``.
        weights: "variance" (paper): 1 / max(alpha (1 - alpha), epsilon). "constant": their mean over the
            interior, 5.7167 at T_s = 8, so that both sum to the same (34.3 at T_s = 8).
        epsilon: Smallest variance.

    Returns:
        (T,) float64, 0 at the ends and where alpha is NaN.
    """
    inside = (alphas > 0) & (alphas < 1)
    values = torch.where(inside, 1 / (alphas * (1 - alphas)).clamp(min=epsilon), 0.0).double()
    if weights == "constant" and bool(inside.any()):
        return torch.where(inside, values.sum() / inside.sum(), 0.0)
    return values


@dataclass(frozen=True)
class Bridge:
    """Which bridge, see the module.

    Attributes:
        form: "paper" or "joint".
        on: What is drawn to the line: "points" (paper) all points of the grid, whatever their label;
            "points_centred" their mean; "foreground_mean" the mean of those on the object, nothing where
            there is none; "box_centre".
        weights: "variance" (paper) or "constant"; of the paper's form.
        mean: "endpoints" (paper) or "track".
        epsilon: Smallest variance, and smallest step of alpha in the joint form.

    Raises:
        ValueError: For an unknown name, or an epsilon that is not positive.
    """

    form: str = "paper"
    on: str = "points"
    weights: str = "variance"
    mean: str = "endpoints"
    epsilon: float = EPSILON

    def __post_init__(self) -> None:
        choices = {"form": FORMS, "on": PLACES, "weights": WEIGHTS, "mean": MEANS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"bridge: {name} must be one of {known}, got {getattr(self, name)!r}")
        if self.epsilon <= 0:
            raise ValueError(f"bridge: epsilon must be positive, got {self.epsilon}")
        if self.form == "joint" and self.weights != "variance":
            raise ValueError('bridge: the joint form has no weights to replace; set weights="variance"')

    @property
    def couples_frames(self) -> bool:
        """Whether the gradient at a frame depends on its neighbours, so that they must be there together."""
        return self.form == "joint"

    def plan(self, centres: Tensor, alphas: Tensor) -> BridgePlan:
        """What is asked of one object over a segment.

        Args:
            centres: (T, 2) true centres; anything where alpha is NaN.
            alphas: (T,) as of ``visible_alphas``.

        Raises:
            ValueError: If the shapes do not fit.
        """
        alphas = alphas.detach().to("cpu", torch.float64)
        if alphas.ndim != 1 or centres.shape != (len(alphas), 2):
            raise ValueError(
                f"need (T, 2) centres and (T,) alphas, got {tuple(centres.shape)} and {tuple(alphas.shape)}"
            )
        means = full_precision(centres.detach())
        used = (~alphas.isnan()).nonzero()[:, 0]
        if self.mean == "endpoints" and len(used):
            first, last = means[used[0]], means[used[-1]]
            share = alphas.to(means)[:, None]
            means = (1 - share) * first + share * last
        means = means.masked_fill(alphas.isnan()[:, None].to(means.device), torch.nan)
        return BridgePlan(alphas, means, bridge_weights(alphas, self.weights, self.epsilon))

    def chosen(self, points: Tensor, box: Tensor, labels: Tensor) -> Tensor:
        """What is drawn to the line.

        Args:
            points: (K, 2) of one object in one frame.
            box: (4,) the box of their grid.
            labels: (K,) 1 on the object, else 0.

        Returns:
            (n, 2): n = K for "points", else 1; 0 where no point lies on the object ("foreground_mean").
        """
        if self.on == "points":
            return points
        if self.on == "points_centred":
            return points.mean(0, keepdim=True)
        if self.on == "box_centre":
            return box_centre(box)[None]
        on_object = points[(labels > 0).to(points.device)]
        return on_object.mean(0, keepdim=True) if len(on_object) else on_object


def frame_term(places: Tensor, frame: BridgeFrame) -> Tensor:
    """A frame's part of the paper's form, a float32 scalar with a graph: (n, 2) places; 0 for no place."""
    if len(places) == 0:
        return full_precision(places).sum()
    given = full_precision(places)
    distances = (given - frame.mean.to(given)).square().sum(-1)
    return frame.weight * distances.mean()


def joint_term(places: Sequence[Tensor], frames: Sequence[BridgeFrame], epsilon: float = EPSILON) -> Tensor:
    """The energy of the bridge over the interior frames of one object, a float32 scalar with a graph.

    (1/n) sum_k sum_t |e_(t+1) - e_t|^2 / (alpha_(t+1) - alpha_t), e = place - mu, and 0 at both ends.

    Args:
        places: (n, 2) per frame, n the same in all frames; those with n = 0 are left out.
        frames: Of the same frames, alpha increasing.
        epsilon: Smallest step of alpha.

    Raises:
        ValueError: If n differs, or alpha does not increase.
    """
    kept = [(one, frame) for one, frame in zip(places, frames, strict=True) if len(one)]
    if not kept:
        return torch.stack([full_precision(one).sum() for one in places]).sum() if places else torch.zeros(())
    if len({len(one) for one, _ in kept}) != 1:
        raise ValueError(f"all frames need the same number of points, got {[len(one) for one, _ in kept]}")
    given = full_precision(torch.stack([one for one, _ in kept]))
    errors = given - torch.stack([frame.mean for _, frame in kept])[:, None].to(given)  # (m, n, 2)
    pinned = torch.cat((torch.zeros_like(errors[:1]), errors, torch.zeros_like(errors[:1])))
    alphas = torch.tensor([0.0, *(frame.alpha for _, frame in kept), 1.0], dtype=torch.float64)
    steps = alphas.diff()
    if bool((steps <= 0).any()):
        raise ValueError(f"frames must be given in the order of time, got alphas {alphas[1:-1].tolist()}")
    energy = pinned.diff(dim=0).square().sum(-1).mean(1)  # (m + 1,)
    return (energy / steps.clamp(min=epsilon).to(energy)).sum()
