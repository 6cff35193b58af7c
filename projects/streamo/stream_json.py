"""Streamo-Instruct JSON, the dialogues as published, <-> ``StreamDialogue``.

A record is ``messages``: a system message, then one user and one assistant message per frame; ``videos``: one
path; and ``video_name``, ``task_type``, ``source``. A user message is the question if there is one, the tag
of the interval and ``<stream>`` in place of the frame, one per line; an assistant message is a state's token,
after which a response gives its text. Source: the example in maifoundations/Streamo. An ``id`` is ours. Files
that write the states as in the paper or as in the release (closing tags), ``<image>`` for ``<stream>``, or no
tags, are read too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from refstream.data.datasets.json_rows import JsonRows
from refstream.data.datasets.reading import expect
from refstream.errors import UserError
from refstream.files import atomic_file

from .clock import StreamClock
from .compiler import State, StreamDialogue, StreamTurn
from .records import OnProblem, record_name
from .states import RELEASE_TOKENS, STATE_TOKENS, parse_reply

PICTURE = "<stream>"
_PICTURES = re.compile(r"<stream>|<image>")
_TAG = re.compile(r"(?:(?P<ask>.*)\n)?<(?P<start>\d+(?:\.\d+)?)s-(?P<end>\d+(?:\.\d+)?)s>", re.DOTALL)


def system_prompt(tokens: Sequence[str] = STATE_TOKENS) -> str:
    """Our system message, with the states written as ``tokens`` (in the order of ``STATES``)."""
    silence, standby, response = tokens
    return (
        "You watch a video as it happens, one frame at a time. Each frame comes with the interval of time "
        "that it opens, such as <3s-4s>. At every frame decide one thing, from what you have seen so far:\n"
        f"{silence} if nothing has to do with what was asked;\n"
        f"{standby} if what was asked is under way, or in sight but not yet to be answered;\n"
        f"{response} and then the whole answer, as soon as it is over or certain.\n"
        "Never answer in part, and never guess what will come."
    )


def read_instruct(
    path: str | Path,
    fps: float = 1.0,
    *,
    drop_leaked: bool = False,
    on_problem: OnProblem | None = None,
) -> list[StreamDialogue]:
    """All dialogues of a file.

    Args:
        path: A JSON list of records.
        fps: Turns per second of dialogues without tags; tags say it themselves.
        drop_leaked: See ``parse_instruct``.
        on_problem: Called for each record that cannot be used, which is then left out; None raises instead.

    Raises:
        UserError: If the file is missing or no JSON list, or a record is of another form: names file, record
            and turn.
    """
    dialogues = []
    for number, row in enumerate(JsonRows(path).scan()):
        where = record_name(path, number, row)
        try:
            dialogues.append(parse_instruct(row, where, fps, drop_leaked=drop_leaked))
        except UserError as error:
            if on_problem is None:
                raise
            on_problem(where, error)
    return dialogues


def parse_instruct(row: object, where: str, fps: float = 1.0, *, drop_leaked: bool = False) -> StreamDialogue:
    """One record; ``where`` names it in messages.

    All that is asked in one turn is read as one question. An answer is taken to belong to the last question
    before it, as the form does not say.

    Args:
        row: The record.
        where: Its name.
        fps: Turns per second if it has no tags.
        drop_leaked: Take the first turn's question out if a later turn asks the same: the public converter
            puts it there too, before its time.

    Raises:
        UserError: If roles do not alternate, a turn has no picture or several, tags do not count on, a reply
            is malformed, or there is an answer and no question.
    """
    record: dict[str, Any] = expect(row, dict, where)
    videos = record.get("videos")
    videos = [videos] if isinstance(videos, str) else expect(videos, list, f"{where}, videos")
    if len(videos) != 1:
        raise UserError(f"{where}: expected one video, got {len(videos)}")
    system, pairs = _pairs(expect(record.get("messages"), list, f"{where}, messages"), where)
    asks, clock, first = _questions([user for user, _ in pairs], fps, where)
    if drop_leaked and asks[0] and asks[0] in asks[1:]:
        asks[0] = ""
    if not any(asks) and any(parse_reply(reply)[0] == "response" for _, reply in pairs):
        raise UserError(f"{where}: answers, but asks nothing")
    turns, num_asked = [], 0
    for number, (ask, (_, reply)) in enumerate(zip(asks, pairs, strict=True)):
        state, words = parse_reply(reply)
        if state is None:
            raise UserError(
                f"{where}, turn {number}: expected {', '.join(STATE_TOKENS)} or {', '.join(RELEASE_TOKENS)}, "
                f"and text after a response alone, got {reply[:80]!r}"
            )
        num_asked += bool(ask)
        turns.append(
            StreamTurn(
                start_s=clock.start(first + number),
                end_s=clock.start(first + number + 1),
                asks=(ask,) if ask else (),
                state=cast(State, state),
                answers=(words,) if words else (),
                answers_to=(max(num_asked - 1, 0),) if words else (),
            )
        )
    return StreamDialogue(
        video=expect(videos[0], str, f"{where}, videos"),
        task=expect(record.get("task_type", ""), str, f"{where}, task_type"),
        turns=tuple(turns),
        clock=clock,
        id=expect(record.get("id", ""), str, f"{where}, id"),
        source=expect(record.get("source", ""), str, f"{where}, source"),
        system=system,
    )


def _pairs(messages: list[Any], where: str) -> tuple[str, list[tuple[str, str]]]:
    """The system message ("" for none), and what user and assistant say in turn."""
    texts = []
    for number, message in enumerate(messages):
        fields = expect(message, dict, f"{where}, message {number}")
        text = expect(fields.get("content"), str, f"{where}, message {number}, content")
        texts.append((fields.get("role"), text))
    system = texts.pop(0)[1] if texts and texts[0][0] == "system" else ""
    roles = [role for role, _ in texts]
    if not texts or roles != ["user", "assistant"] * (len(texts) // 2):
        found = ", ".join(map(str, roles[:6])) or "nothing"
        raise UserError(f"{where}: expected user and assistant to take turns, got {found}")
    said = [text for _, text in texts]
    return system, list(zip(said[::2], said[1::2], strict=True))


def _questions(users: Sequence[str], fps: float, where: str) -> tuple[list[str], StreamClock, int]:
    """Each turn's question ("" for none), the clock of the tags, and the first turn's interval."""
    texts, tags = [], []
    for number, user in enumerate(users):
        text, count = _PICTURES.subn("", user)
        if count != 1:
            raise UserError(f"{where}, turn {number}: expected one {PICTURE}, got {count} in {user[:80]!r}")
        match = _TAG.fullmatch(text.strip())
        tags.append(match and (float(match["start"]), float(match["end"]), match[0].rsplit("\n", 1)[-1]))
        texts.append((match["ask"] or "" if match else text).strip())
    if not any(tags):
        return texts, StreamClock(fps), 0
    found = [tag for tag in tags if tag is not None]
    length = found[-1][1] - found[0][0]
    if len(found) < len(users) or length <= 0:
        raise UserError(
            f"{where}, turn {tags.index(None) if None in tags else 0}: expected a tag such as <3s-4s>"
        )
    rate = len(found) / length  # tags are rounded
    clock = StreamClock(round(rate, 2) if rate >= 1 else 1 / round(1 / rate, 2))
    first = round(found[0][0] * clock.fps)
    for number, (_, _, tag) in enumerate(found):
        if tag != (expected := clock.label(first + number)):
            raise UserError(
                f"{where}, turn {number}: expected the tag {expected} (equal intervals, no gaps), got {tag}"
            )
    return texts, clock, first


def instruct_row(
    dialogue: StreamDialogue, tokens: Sequence[str] = STATE_TOKENS, system: str | None = None
) -> dict[str, Any]:
    """One record in the published form.

    Args:
        dialogue: Any, or a chunk of one.
        tokens: The states as they are to be written.
        system: System message; None: the dialogue's own with the states written as ``tokens``, or
            ``system_prompt`` if it has none.
    """
    if system is None:
        system = _respelled(dialogue.system, tokens) or system_prompt(tokens)
    turns = [(f"{turn.user_text()}\n{PICTURE}", turn.assistant_text(tokens)) for turn in dialogue.turns]
    named = {"task_type": dialogue.task, "source": dialogue.source, "id": dialogue.id}
    return {
        "messages": messages(turns, system),
        "videos": [dialogue.video],
        "video_name": re.split(r"[/\\]", dialogue.video)[-1],
        **{key: value for key, value in named.items() if value},
    }


def _respelled(text: str, tokens: Sequence[str]) -> str:
    """A text in which the states are written as ``tokens``."""
    for spelling in (STATE_TOKENS, RELEASE_TOKENS):
        for old, new in zip(spelling, tokens, strict=True):
            text = text.replace(old, new)
    return text


def messages(turns: Iterable[tuple[str, str]], system: str) -> list[dict[str, str]]:
    """(user, assistant) texts as messages, after the system message if there is one."""
    first = [{"role": "system", "content": system}] if system else []
    return first + [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]


def write_instruct(
    path: str | Path,
    dialogues: Iterable[StreamDialogue],
    tokens: Sequence[str] = STATE_TOKENS,
    system: str | None = None,
) -> int:
    """Write dialogues as ``instruct_row`` does, one after another; returns how many.

    Raises:
        OutputError: If the file cannot be written; what was there before is intact.
    """
    return write_rows(path, (instruct_row(dialogue, tokens, system) for dialogue in dialogues))


def write_rows(path: str | Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write a JSON list of records that are made one by one; returns how many.

    Raises:
        OutputError: If the file cannot be written; what was there before is intact.
    """
    count = 0
    with atomic_file(path) as part, part.open("w", encoding="utf-8") as file:
        file.write("[")
        for row in rows:
            file.write("," if count else "")
            file.write("\n" + json.dumps(row, indent=2, ensure_ascii=False, allow_nan=False))
            count += 1
        file.write("\n]\n")
    return count
