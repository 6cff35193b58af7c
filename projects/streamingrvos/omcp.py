"""Online Mask Consistency Perception (OMCP): this method's thresholds and what it asks when in doubt.

Source: StreamingRVOS (CVPR 2026). P_i is SAM2's predicted IoU of the mask that the reused [SEG] gives on the
current frame, P_c its IoU with the previous mask. The [SEG] is reused while P_i >= tau_1 and P_c >= tau_2;
otherwise the MLLM looks at the frame, told that the target may have changed, and the frame is decoded again.
The rule itself is ``refstream.streaming.gates.ConsistencyGate``. The released code has no OMCP at inference.
"""

from __future__ import annotations

from typing import Any

# (tau_1, tau_2) per size of the MLLM: paper, implementation details.
THRESHOLDS = {"1b": (0.7, 0.1), "4b": (0.8, 0.2)}

# The paper gives the wording as an example only; assumed.
REPROMPT = "The target might have changed, focus on the context."


def paper_gate(size: str) -> dict[str, Any]:
    """Config of the paper's gate for a size.

    Raises:
        ValueError: If the paper has no thresholds for that size.
    """
    if size not in THRESHOLDS:
        raise ValueError(
            f"the paper has thresholds for {sorted(THRESHOLDS)}, not for {size!r}; give tau1 and tau2"
        )
    tau1, tau2 = THRESHOLDS[size]
    return dict(type="ConsistencyGate", tau1=tau1, tau2=tau2)
