"""VIRST as a pipeline: a whole clip (``offline``), or a stream (``online``).

What the paper says, what the released code does and what is here: ``docs/methods/virst.md``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from refstream.errors import UserError
from refstream.registry import PIPELINES
from refstream.streaming.features import StageTimer, no_timer
from refstream.structures import Frame, Query, StreamEvent

from .anchors import AnchorPolicy, build_anchor_policy
from .clip import build_reader
from .memory import AnchorMemory
from .offline import ClipState, OfflineKeys, segment_clip
from .online import VIEWS, OnlineFeatures, OnlineRunner, OnlineState
from .parts import Parts
from .tracker import ORDERS, Tracker

OFFLINE_ANCHORS = dict(type="uniform", alpha=3)
ONLINE_ANCHORS = dict(type="every_k", k=10)
PAPER_MEMORY = dict(type="tdau", alpha=3, num_recent=6, anchors="recent")
RELEASE_MEMORY = dict(type="tdau", alpha=3, num_recent=6, anchors="nearest")
STRIDE = 16


@PIPELINES.register_module()
class VIRST:
    """Spatio-temporal fusion, dynamic anchors, and propagation with their memory.

    Args:
        model: Composite with ``mllm``, a SAM2 ``segmenter`` and head ``SpatioTemporalFusion``.
        online: False: buffers the clip and answers at its end. True: answers with every frame and sets
            anchors on the way, in bounded state.
        anchors: Anchor policy or its config. None: offline the paper's three uniform ones, online every tenth
            frame (assumed).
        memory: Config of the tracker's memory. None: alpha = 3 most recent anchors, P = 6 (paper).
        reader: Keys of ``ClipReader``: frames and tokens for the MLLM, question and answer.
        multimask: Best of three masks; False: the single mask.
        max_frames: Offline: longest clip that is taken; all its images are kept until it ends.
        max_seg_frames: Offline: T_seg, most frames that the fusions see, evenly spread; anchors are among
            them. The other frames are tracked only.
        order: Offline: in which order frames are decoded, see ``processing_order``. "time" looks at no anchor
            ahead (paper), "anchors_first" decodes all anchors before the rest (release).
        known_length: Offline: divide distances of object pointers by the clip's length (release).
        seed: Offline: of policies that draw.
        keep_anchors: Online: anchors that the fusions see besides the present frame.
        keep_recent: Online: frames before the present one that they see.
        mllm_view: Online: "window" or "anchors", see ``OnlineRunner``.
        stage: Stage timer.

    Attributes:
        causal: As ``online``.
        max_frames: None online.
        presets: Keys of this class, by source.
        head_presets: Keys of the head, by source.

    Raises:
        UserError: If keys contradict each other or the model.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "virst_paper": dict(
            online=False,
            anchors=OFFLINE_ANCHORS,
            memory=PAPER_MEMORY,
            order="time",
            multimask=True,
            max_seg_frames=32,
            known_length=False,
            reader=dict(frame_tokens=16, max_mllm_frames=16, numbered=False),
        ),
        "virst_release": dict(
            online=False,
            anchors=dict(type="release", divisor=4),
            memory=RELEASE_MEMORY,
            order="anchors_first",
            multimask=True,
            max_seg_frames=32,
            known_length=True,
            reader=dict(frame_tokens=16, max_mllm_frames=64, numbered=True, answer="It is {st}."),
        ),
    }
    head_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "virst_paper": dict(type="SpatioTemporalFusion", fusion="two_step", shared_token=False),
        "virst_release": dict(type="SpatioTemporalFusion", fusion="second_only", shared_token=True),
    }

    def __init__(
        self,
        model: Any,
        *,
        online: bool = False,
        anchors: AnchorPolicy | Mapping[str, Any] | str | None = None,
        memory: Mapping[str, Any] | None = None,
        reader: Mapping[str, Any] | None = None,
        multimask: bool = True,
        max_frames: int = 1024,
        max_seg_frames: int = 32,
        order: str = "time",
        known_length: bool = False,
        seed: int = 0,
        keep_anchors: int = 3,
        keep_recent: int = 6,
        mllm_view: str = "window",
        stage: StageTimer = no_timer,
    ) -> None:
        for name, value, least in (
            ("max_frames", max_frames, 1),
            ("max_seg_frames", max_seg_frames, 1),
            ("keep_anchors", keep_anchors, 0),
            ("keep_recent", keep_recent, 0),
        ):
            if value < least:
                raise UserError(f"{name} must be at least {least}, got {value}")
        if order not in ORDERS or mllm_view not in VIEWS:
            raise UserError(
                f"order must be one of {ORDERS}, mllm_view one of {VIEWS}; got {order!r} and {mllm_view!r}"
            )
        default = ONLINE_ANCHORS if online else OFFLINE_ANCHORS
        self.parts = Parts(
            model=model,
            reader=build_reader(model, reader),
            policy=build_anchor_policy(default if anchors is None else anchors),
            memory=dict(PAPER_MEMORY if memory is None else memory),
            multimask=multimask,
            stage=stage,
        )
        self.causal = online
        self.max_frames = None if online else max_frames
        self.keys = OfflineKeys(max_seg_frames, order, known_length, seed)
        self.online = OnlineRunner(
            self.parts, keep_anchors=keep_anchors, keep_recent=keep_recent, mllm_view=mllm_view
        )
        self._check(keep_anchors + keep_recent + 1 if online else max_seg_frames)

    @classmethod
    def head_for(cls, *, image_size: int, hidden_size: int, prompt_dim: int) -> dict[str, Any]:
        """Config of a head for parts of any size, as near to the paper's as they allow.

        Args:
            image_size: Side of the segmenter's square input.
            hidden_size: H of the MLLM.
            prompt_dim: C of the segmenter's prompts.
        """
        sides = [-(-image_size // STRIDE)]
        while len(sides) < 4:
            sides.append((sides[-1] + 1) // 2)
        return dict(
            type="SpatioTemporalFusion",
            map_size=sides[0],
            grid=min(sides, key=lambda side: abs(side - 8)),
            num_heads=_heads(prompt_dim, 6),  # 3D positions need two channels per axis
            initial_heads=_heads(hidden_size, 1),
        )

    def start(self, query: Query) -> ClipState | OnlineState:
        """A fresh state; the expression is checked now, not at the first frame."""
        self.parts.reader.chat([query.expression])
        return self.online.start(query) if self.causal else ClipState(query)

    def encode(self, frame: Frame) -> OnlineFeatures:
        """What all queries of the frame share; nothing is encoded before it is asked for."""
        return OnlineFeatures(self.parts, frame)

    def step(self, states: Sequence[Any], frame: Frame, features: OnlineFeatures) -> list[StreamEvent]:
        """One frame for N queries: their events if online, else none yet."""
        if self.causal:
            return self.online.step(states, frame, features)
        for state in states:
            state.frames.append(frame)
        return []

    def finish(self, state: Any) -> list[StreamEvent]:
        """What one query still has to say: all, if offline."""
        return self.finish_all([state])

    def finish_all(self, states: Sequence[Any]) -> list[StreamEvent]:
        """As ``finish`` for several queries: those that saw the same frames share all encoders.

        Returns:
            Query after query, each in order of time.
        """
        if self.causal:
            return []
        rows_of: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, state in enumerate(states):
            if state.frames:
                rows_of[state.frames[0].index, len(state.frames)].append(row)
        found: dict[str, list[StreamEvent]] = defaultdict(list)
        for rows in rows_of.values():
            queries = [states[row].query for row in rows]
            for event in segment_clip(self.parts, states[rows[0]].frames, queries, self.keys):
                found[event.query_id].append(event)
        return [event for state in states for event in found[state.query.id]]

    def _check(self, window: int) -> None:
        """Raise a ``UserError`` for keys that can not work together, before any frame is read."""
        parts, head = self.parts, self.parts.model.head
        memory = parts.new_memory()
        Tracker(parts.model.segmenter, memory, multimask=parts.multimask)  # it checks them
        if window > head.max_frames:
            raise UserError(
                f"the fusions would see {window} frames, the head takes {head.max_frames}: lower "
                f"{'keep_anchors or keep_recent' if self.causal else 'max_seg_frames'}, or raise the head's "
                "max_frames"
            )
        if self.causal and not parts.policy.online:
            raise UserError(
                f"anchor policy {type(parts.policy).__name__} must see the whole clip: set online=False, or "
                "choose first_frame, every_k or score"
            )
        if not self.causal and not parts.policy.offline:
            raise UserError(
                f"anchor policy {type(parts.policy).__name__} sets anchors frame by frame: set online=True"
            )
        recent = not isinstance(memory, AnchorMemory) or memory.anchors == "recent"
        if self.causal and (not recent or self.keys.order != "time"):
            raise UserError(
                'online=True knows no anchor ahead: set memory anchors="recent" and order="time", got '
                f"{dict(parts.memory)} and {self.keys.order!r}"
            )
        if recent and isinstance(memory, AnchorMemory) and self.keys.order == "anchors_first":
            raise UserError(
                'order="anchors_first" decodes anchors before their time: set memory anchors="nearest"'
            )


def _heads(width: int, narrowest: int) -> int:
    """The most of 8, 4, 2, 1 heads that divide a width into parts of at least ``narrowest``."""
    fitting = [n for n in (8, 4, 2, 1) if width % n == 0 and width // n >= narrowest]
    if not fitting:
        raise UserError(f"no number of heads divides a width of {width} into {narrowest} or more each")
    return fitting[0]
