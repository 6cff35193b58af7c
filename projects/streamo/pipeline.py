"""Streamo as a pipeline: each second every question is decided anew: silence, standby, or an answer.

    session = StreamSession(model.pipeline())
    session.add("tell me when the light turns green")
    for frame in open_video("clip.mp4"):
        for event in session.step(frame):     # one per question and second
            event.text                        # the words, None if it says nothing
            event.extra["state"]              # "silence", "standby" or "response"

The dialogue of a question is what the compiler makes for training, turn by turn, in a key-value cache that
grows by each second's frame and is bounded by a window. (The release sends it all again every second.)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from refstream.errors import UserError
from refstream.models.mllm.chat import Turn
from refstream.models.mllm.decoding import Reply, decide, decode_constrained, decode_free
from refstream.models.mllm.dialogue import Dialogue, Snapshot
from refstream.models.mllm.pooling import check_pooling
from refstream.models.mllm.window import DialogueWindow
from refstream.registry import PIPELINES
from refstream.streaming.features import StageTimer, no_timer
from refstream.structures import Frame, Query, StreamEvent

from .clock import StreamClock
from .policy import RESPONSE, SILENCE, Decision, DecisionPolicy, build_policy
from .rounds import Round, StreamRounds
from .states import STATE_TOKENS, STATES, check_prompts, parse_reply, state_ids

SECOND, MALFORMED, FINAL = "second", "malformed", "final"  # reasons
ROUNDS = 120  # release, for OVO-Bench


@dataclass
class StreamoState:
    """One question and its dialogue.

    Attributes:
        query: What is asked, and when.
        dialogue: Empty until the question has been put.
        next_round: The first interval that has not been judged; None until the question has been put.
        num_spoken: How often it has answered.
        last_s: Start of the interval of its last answer, in seconds.
        last: The last round that was judged, its turn, and the dialogue before it.
    """

    query: Query
    dialogue: Dialogue
    next_round: int | None = None
    num_spoken: int = 0
    last_s: float | None = None
    last: tuple[Round, Turn, Snapshot] | None = None


@PIPELINES.register_module()
class Streamo:
    """Answers in words, when it finds that it is time.

    A question that is asked at q is put into the turn of the interval that contains q, with that interval's
    frame, as soon as a frame at or after q comes (or the stream ends). From then on each interval's first
    frame is judged when it comes.

    Args:
        model: Composite with an ``mllm`` that knows the state tokens.
        fps: Intervals per second; 1 as trained, the paper also tests 2.
        frame_tokens: Vision tokens per frame, see ``pool_tokens``. None: all that the MLLM gives.
        policy: ``DecisionPolicy`` or its keys. None: the likeliest state.
        constrained: Choose among the three states first. False: let the MLLM speak freely and read the state
            out of its words (release); what cannot be read counts as silence, with reason "malformed".
        history: Intervals before a question that its dialogue begins with, as silent turns (as in training,
            and in the release). 0: none.
        rounds: The dialogue's length in intervals: when it is full, the older half of the turns leaves, but
            for the system's and the question's.
        max_tokens: The same in tokens; None: what ``rounds`` take, or all that the language model takes.
        max_new_tokens: Of one answer (release: 512).
        speak_at_end: A question that was never answered is answered when it ends, on the last frame: for
            benchmarks that want an answer at a given moment.
        stage: Stage timer.

    Attributes:
        answers: "text".
        fps: Intervals per second, as given.
        presets: Keys of this class, by source.

    Raises:
        UserError: If keys contradict each other or the model.
    """

    causal = True
    max_frames = None
    answers = "text"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "streamo_paper": dict(fps=1.0, constrained=True, history=ROUNDS, rounds=ROUNDS),
        "streamo_release": dict(
            fps=1.0, constrained=False, history=ROUNDS, rounds=ROUNDS, max_new_tokens=512
        ),
    }

    def __init__(
        self,
        model: Any,
        *,
        fps: float = 1.0,
        frame_tokens: int | None = None,
        policy: DecisionPolicy | Mapping[str, Any] | None = None,
        constrained: bool = True,
        history: int = ROUNDS,
        rounds: int = ROUNDS,
        max_tokens: int | None = None,
        max_new_tokens: int = 128,
        speak_at_end: bool = False,
        stage: StageTimer = no_timer,
    ) -> None:
        for name, value, least in (
            ("history", history, 0),
            ("rounds", rounds, 1),
            ("max_new_tokens", max_new_tokens, 2),
        ):
            if value < least:
                raise UserError(f"{name} must be at least {least}, got {value}")
        try:
            self.clock, self.fps = StreamClock(fps), fps
        except ValueError as error:
            raise UserError(str(error)) from error
        self.policy = build_policy(policy)
        if not constrained and vars(self.policy) != vars(DecisionPolicy()):
            raise UserError("a policy chooses among the states: it needs constrained=True")
        self.model, self.stage = model, stage
        self.prompts = model.mllm.prompts
        self.ids = state_ids(model.mllm.tokenizer)
        check_prompts(self.prompts)
        whole = int(model.mllm.num_image_tokens)
        self.frame_tokens = whole if frame_tokens is None else frame_tokens
        if self.frame_tokens != whole:
            check_pooling(whole, self.frame_tokens)
        self.constrained, self.history = constrained, history
        self.max_new_tokens, self.speak_at_end = max_new_tokens, speak_at_end
        self.window = self._window(rounds, max_tokens)
        self.rounds = self._new_rounds()

    def for_stream(self) -> Streamo:
        """The same pipeline with a memory of its own, for one stream."""
        twin = copy.copy(self)
        twin.rounds = self._new_rounds()
        return twin

    def start(self, query: Query) -> StreamoState:
        """A fresh state; the length of the question is checked now.

        Raises:
            UserError: If it does not fit into the window, with an answer that stays and one more turn.
        """
        system = int(self.prompts.opening().input_ids.shape[1])
        asked = self._opening(self._turn(query, self.clock.label(9999)), first=False)
        # an answer in the question's own turn stays with it
        sinks = [("system", system), ("question", asked.input_ids.shape[1] + self.window.reserve)]
        try:
            self.window.kept(sinks, self._round_tokens())
        except ValueError as error:
            raise UserError(f"the question {query.expression[:60]!r} is too long: {error}") from error
        return StreamoState(query, Dialogue(self.model.mllm, self.window))

    def encode(self, frame: Frame) -> StreamRounds:
        """The rounds of the stream, this frame taken in; vision tokens are made when a query needs them."""
        self.rounds.see(frame)
        return self.rounds

    def step(self, states: Sequence[StreamoState], frame: Frame, features: StreamRounds) -> list[StreamEvent]:
        """One event per query and round that was not judged yet: none between the frames of two intervals."""
        return [
            event
            for state in states
            if state.query.time_s <= frame.time_s
            for event in self._advance(state, features, frame.index, frame.time_s)
        ]

    def finish(self, state: StreamoState) -> list[StreamEvent]:
        """Put a question of the last interval that no frame came after; with ``speak_at_end``, answer it."""
        if self.rounds.last is None:
            return []
        index, time_s = self.rounds.last
        time_s = max(time_s, state.query.time_s)
        events = self._advance(state, self.rounds, index, time_s) if state.next_round is None else []
        if self.speak_at_end and state.last is not None and state.num_spoken == 0:
            events.append(self._speak_at_last(state, index, time_s))
        return events

    # ------------------------------------------------------------ one query

    def _advance(
        self, state: StreamoState, seen: StreamRounds, index: int, time_s: float
    ) -> list[StreamEvent]:
        """Judge the rounds that are new to a query, putting its question first if it is its time."""
        start = self.clock.interval_at(state.query.time_s) if state.next_round is None else state.next_round
        new = seen.since(start)
        events = []
        for one in new:
            if state.next_round is None:
                self._open(state, seen, one)
                turn = self._turn(state.query, one.label)
            else:
                turn = Turn(one.label, images=1)
            events.append(self._judge(state, seen, one, turn, index, time_s))
            state.next_round = one.index + 1
        return events

    def _open(self, state: StreamoState, seen: StreamRounds, one: Round) -> None:
        """The system turn, and silent turns of the rounds before ``one``; all wait for the question."""
        dialogue = state.dialogue
        dialogue.add(self.prompts.opening(), segment="system")
        asked = self._opening(self._turn(state.query, one.label), first=False).input_ids.shape[1]
        room = self.window.max_tokens - self.window.reserve - dialogue.num_tokens - asked
        past = seen.before(one.index)[-self.history :] if self.history else []
        past = past[max(0, len(past) - room // self._round_tokens()) :] if room > 0 else []
        seen.encode([*past, one])
        silent = self.prompts.turn_closing(STATE_TOKENS[STATES.index(SILENCE)])
        for number, earlier in enumerate(past):
            opening = self._opening(Turn(earlier.label, images=1), first=number == 0)
            dialogue.add(opening, earlier.tokens, segment="round")
            dialogue.add(silent)

    def _judge(
        self, state: StreamoState, seen: StreamRounds, one: Round, turn: Turn, index: int, time_s: float
    ) -> StreamEvent:
        """One turn: what is seen, what is decided, what is said."""
        seen.encode([one])
        state.last = (one, turn, state.dialogue.snapshot())
        with self.stage("mllm"):
            hidden = self._show(state, one, turn)
            odds = decide(state.dialogue, hidden, self.ids.all)
            probabilities = dict(zip(STATES, map(float, odds.probabilities), strict=True))
            speak = self._choose if self.constrained else self._speak_freely
            said, words, extra = speak(state, hidden, probabilities, self.clock.start(one.index))
        extra = {"state": said, "probabilities": probabilities, "interval": one.label, **extra}
        reason = MALFORMED if "said" in extra else SECOND
        return self._event(state, one, words, reason, extra, index, time_s)

    def _show(self, state: StreamoState, one: Round, turn: Turn) -> Tensor:
        """(1, L, D) states of the piece that opens a turn."""
        first = not any(segment.kind != "system" for segment in state.dialogue.segments)
        kind = "question" if state.next_round is None or turn.text != one.label else "round"
        return state.dialogue.append(self._opening(turn, first=first), one.tokens, segment=kind)

    def _choose(
        self, state: StreamoState, hidden: Tensor, probabilities: Mapping[str, float], now_s: float
    ) -> tuple[str, str | None, dict[str, Any]]:
        """The policy's state, and the words if it speaks."""
        decision = self.policy.decide(probabilities, time_s=now_s, last_s=state.last_s)
        return self._carry_out(state, hidden, decision)

    def _carry_out(
        self, state: StreamoState, hidden: Tensor, decision: Decision
    ) -> tuple[str, str | None, dict[str, Any]]:
        opened = state.dialogue.snapshot()
        chosen = STATES.index(decision.state)
        reply = decode_constrained(
            state.dialogue,
            hidden,
            self.ids.all,
            pick=lambda _: chosen,
            final=(self.ids.silence, self.ids.standby),
            max_new_tokens=self.max_new_tokens,
        )
        extra: dict[str, Any] = {"rule": decision.reason}
        if decision.state != RESPONSE:
            return decision.state, None, extra
        if not reply.text:
            self._stay_silent(state, opened)
            return SILENCE, None, {**extra, "said": STATE_TOKENS[chosen]}
        return RESPONSE, reply.text, {**extra, **_cut(reply)}

    def _speak_freely(
        self, state: StreamoState, hidden: Tensor, probabilities: Mapping[str, float], now_s: float
    ) -> tuple[str, str | None, dict[str, Any]]:
        """What the MLLM says by itself, read as a state and words."""
        opened = state.dialogue.snapshot()
        reply = decode_free(state.dialogue, hidden, max_new_tokens=self.max_new_tokens)
        found, words = parse_reply(reply.text)
        if found is None:
            self._stay_silent(state, opened)
            return SILENCE, None, {"said": reply.text, **_cut(reply)}
        return found, words or None, _cut(reply)

    def _stay_silent(self, state: StreamoState, opened: Snapshot) -> None:
        """Take an answer back: the dialogue goes on as if it had been silent."""
        state.dialogue.crop(opened)
        state.dialogue.add(self.prompts.turn_closing(STATE_TOKENS[STATES.index(SILENCE)]))

    def _speak_at_last(self, state: StreamoState, index: int, time_s: float) -> StreamEvent:
        """Judge the last round once more, where only an answer will do."""
        if state.last is None:
            raise AssertionError("there is no round to speak of")
        one, turn, before = state.last
        state.dialogue.crop(before)
        with self.stage("mllm"):
            hidden = self._show(state, one, turn)
            odds = decide(state.dialogue, hidden, self.ids.all)
            said, words, extra = self._carry_out(state, hidden, Decision(RESPONSE, FINAL))
        probabilities = dict(zip(STATES, map(float, odds.probabilities), strict=True))
        extra = {"state": said, "probabilities": probabilities, "interval": one.label, **extra}
        return self._event(state, one, words, FINAL, extra, index, time_s)  # also without words: it has ended

    def _event(
        self,
        state: StreamoState,
        one: Round,
        words: str | None,
        reason: str,
        extra: dict[str, Any],
        index: int,
        time_s: float,
    ) -> StreamEvent:
        if words is not None:
            state.num_spoken += 1
            state.last_s = self.clock.start(one.index)
        return StreamEvent(
            query_id=state.query.id,
            frame_index=index,
            time_s=time_s,
            text=words,
            invoked_mllm=True,
            reason=reason,
            extra=extra,
        )

    # ------------------------------------------------------------ prompts and window

    def _turn(self, query: Query, label: str) -> Turn:
        """The turn that asks, as the compiler writes it."""
        return Turn(f"{query.expression}\n{label}", images=1)

    def _opening(self, turn: Turn, *, first: bool) -> Any:
        return self.prompts.turn_opening(turn, first=first, tile_tokens=self.frame_tokens)

    def _round_tokens(self) -> int:
        """Tokens of a silent turn late in a stream."""
        opening = self._opening(Turn(self.clock.label(9999), images=1), first=False)
        silent = self.prompts.turn_closing(STATE_TOKENS[STATES.index(SILENCE)])
        return int(opening.input_ids.shape[1] + silent.input_ids.shape[1])

    def _window(self, rounds: int, max_tokens: int | None) -> DialogueWindow:
        limit = int(self.model.mllm.config.text_config.max_position_embeddings)
        wanted = (rounds + 1) * self._round_tokens() + self.max_new_tokens
        reserve = self.max_new_tokens + int(self.prompts.turn_closing("").input_ids.shape[1])
        chosen = min(wanted, limit) if max_tokens is None else max_tokens
        if not reserve < chosen <= limit:
            raise UserError(
                f"the window has {chosen} tokens; it needs more than the {reserve} of an answer "
                f"(max_new_tokens) and at most the {limit} that the language model takes"
            )
        return DialogueWindow(chosen, reserve=reserve)

    def _new_rounds(self) -> StreamRounds:
        return StreamRounds(
            self.model,
            self.clock,
            keep=self.history + 2,  # a question may come up between two frames, in the older one's interval
            frame_tokens=self.frame_tokens,
            stage=self.stage,
        )


def _cut(reply: Reply) -> dict[str, Any]:
    """A remark where the limit of tokens ended an answer."""
    return {} if reply.finished else {"cut": True}
