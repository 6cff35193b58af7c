"""From the probabilities of the three states to what is done: speak now, or not.

    policy = DecisionPolicy(respond=0.4, cool_down_s=3.0)
    decision = policy.decide({"silence": 0.5, "standby": 0.05, "response": 0.45}, time_s=7.0, last_s=None)
    decision.state, decision.reason                      # "response", "threshold"

The released code takes what greedy decoding gives: ``DecisionPolicy()``. A threshold moves the balance
between speaking too early and too late without another training; ``best_threshold`` finds it on data with
known answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refstream.errors import UserError

SILENCE, STANDBY, RESPONSE = "silence", "standby", "response"


@dataclass(frozen=True)
class Decision:
    """What is done at one moment.

    Attributes:
        state: "silence", "standby" or "response".
        reason: One word: argmax, threshold, cool_down (it would have spoken, but just did).
    """

    state: str
    reason: str


class DecisionPolicy:
    """Chooses a state.

    Args:
        respond: Speak if the probability of "response" is at least this, in [0, 1]; else the likelier of the
            other two. None: the likeliest of the three (release).
        cool_down_s: After having spoken, say nothing for this long. 0: no such rule (release).
        standby: False: "standby" counts as "silence".

    Of equal probabilities the quieter state wins.

    Raises:
        UserError: If a number is out of its range.
    """

    def __init__(
        self, *, respond: float | None = None, cool_down_s: float = 0.0, standby: bool = True
    ) -> None:
        if respond is not None and not 0.0 <= respond <= 1.0:
            raise UserError(f"respond must be a probability in [0, 1], or None for argmax; got {respond}")
        if not (math.isfinite(cool_down_s) and cool_down_s >= 0.0):
            raise UserError(f"cool_down_s must be 0 seconds or more, got {cool_down_s}")
        self.respond, self.cool_down_s, self.standby = respond, cool_down_s, standby

    def decide(self, probabilities: Mapping[str, float], *, time_s: float, last_s: float | None) -> Decision:
        """Judge one moment.

        Args:
            probabilities: Of the three states; they sum to 1.
            time_s: Now.
            last_s: When it spoke last; None if it has not.

        Raises:
            ValueError: If a state is missing or a probability is not a number.
        """
        if set(probabilities) != {SILENCE, STANDBY, RESPONSE}:
            raise ValueError(f"expected probabilities of the three states, got {sorted(probabilities)}")
        if any(math.isnan(p) for p in probabilities.values()):
            raise ValueError(f"the probabilities of the states are not numbers: {dict(probabilities)}")
        quiet = STANDBY if probabilities[STANDBY] > probabilities[SILENCE] else SILENCE
        if self.respond is None:
            speaks, reason = probabilities[RESPONSE] > probabilities[quiet], "argmax"
        else:
            speaks, reason = probabilities[RESPONSE] >= self.respond, "threshold"
        if speaks and not self.rests(time_s, last_s):
            return Decision(RESPONSE, reason)
        state = quiet if self.standby else SILENCE
        return Decision(state, "cool_down" if speaks else reason)

    def rests(self, time_s: float, last_s: float | None) -> bool:
        """Whether it spoke less than ``cool_down_s`` ago."""
        return last_s is not None and time_s - last_s < self.cool_down_s


def build_policy(policy: DecisionPolicy | Mapping[str, Any] | None) -> DecisionPolicy:
    """A policy from the keys in a config.

    Raises:
        UserError: If a key is not one of ``DecisionPolicy``.
    """
    if isinstance(policy, DecisionPolicy):
        return policy
    try:
        return DecisionPolicy(**(policy or {}))
    except TypeError as error:
        raise UserError(
            f"policy does not accept {dict(policy or {})}; its keys are respond, cool_down_s and standby"
        ) from error


def best_threshold(responses: Sequence[float], truth: Sequence[bool]) -> tuple[float, float]:
    """The ``respond`` at which speaking agrees best with the truth, by F1 over moments.

    Args:
        responses: N probabilities of "response".
        truth: N, whether it should have spoken at that moment; at least one is True.

    Returns:
        The threshold, the highest of equally good ones, and its F1 in [0, 1].

    Raises:
        ValueError: If lengths differ, or nothing was to be said.
    """
    if len(responses) != len(truth) or not any(truth):
        raise ValueError(
            "expected as many truths as probabilities, and at least one moment to speak; got "
            f"{len(responses)} probabilities and {len(truth)} truths, {sum(truth)} of them moments to speak"
        )
    wanted = sum(truth)
    best = (1.0, -1.0)
    spoken = hits = 0
    ranked = sorted(zip(responses, truth, strict=True), key=lambda pair: -pair[0])
    for place, (value, right) in enumerate(ranked):
        spoken += 1
        hits += bool(right)
        if place + 1 < len(ranked) and ranked[place + 1][0] == value:
            continue  # a threshold takes all of equal probability, or none
        f1 = 2 * hits / (spoken + wanted)
        if f1 > best[1]:
            best = (value, f1)
    return best
