"""From what OpenCode's server tells to events. Pure: JSON in, events out; what is not known is left out.

The protocol is written down by the program itself: `GET /doc` of `opencode serve`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final, cast

Json = dict[str, Any]
#: Of what a tool answered.
RESULT_CHARS: Final = 256 * 1024
FAULT_CHARS: Final = 4000
#: What it calls a turn that was broken off.
_ABORTED: Final = "MessageAbortedError"


class Translator:
    """Follows one session, and what the agents below it use."""

    def __init__(self, session: str, window: int | None = None) -> None:
        self._session = session
        #: Tokens that its model takes in.
        self._window = window
        #: Messages of its model, and whether each is a summary of what was before.
        self._answers: dict[str, bool] = {}
        #: Text that is still written, by the part's id; calls and steps that were told.
        self._text: dict[str, str] = {}
        self._told: set[str] = set()
        #: What calls are made with, by the call's id.
        self.inputs: dict[str, Json] = {}
        self._fault = ""
        self._reason: str | None = None
        self._is_open = False

    @property
    def is_broken(self) -> bool:
        """The turn that goes on, or was the last, failed."""
        return bool(self._fault)

    def begin(self) -> None:
        """A turn goes on."""
        if not self._is_open:
            self._is_open, self._fault, self._reason = True, "", None

    def notice(self, event: Json) -> Iterator[Json]:
        """What one event says."""
        told = object_of(event.get("properties"))
        is_ours = told.get("sessionID") == self._session
        match event.get("type"):
            case "message.updated" if is_ours:
                yield from self._message(object_of(told.get("info")))
            case "message.part.updated":
                yield from self._part(object_of(told.get("part")), is_ours=is_ours)
            case "session.status" if is_ours:
                yield from _again(object_of(told.get("status")))
            case "session.error" if is_ours:
                yield from self._trouble(object_of(told.get("error")))
            case "session.compacted" if is_ours:
                yield {"event": "compaction", "text": None}
            case _:
                return

    def turn_over(self) -> Iterator[Json]:
        """The session is idle."""
        for text in self._text.values():
            if text:
                yield {"event": "text", "text": text}
        self._text.clear()
        if self._is_open:
            self._is_open = False
            is_error, text = bool(self._fault), self._fault or None
            result: Json = {"event": "result", "is_error": is_error, "text": text}
            yield {**result, "stop_reason": "error" if is_error else self._reason}

    def _message(self, info: Json) -> Iterator[Json]:
        if info.get("role") != "assistant":
            return
        self._answers[str(info.get("id"))] = info.get("summary") is True
        if info.get("finish"):
            self._reason = str(info["finish"])
        yield from self._trouble(object_of(info.get("error")))

    def _part(self, part: Json, *, is_ours: bool) -> Iterator[Json]:
        ident = str(part.get("id"))
        match part.get("type"):
            case "step-finish" if ident not in self._told:
                self._told.add(ident)
                yield from self._used(part, is_ours=is_ours)
            case "text" if is_ours and self._answers.get(str(part.get("messageID"))) is False:
                yield from self._write(ident, part)
            case "tool":
                yield from self._call(part, is_ours=is_ours)
            case "retry" if is_ours:
                yield from _faults(object_of(part.get("error")))
            case _:
                return

    def _write(self, ident: str, part: Json) -> Iterator[Json]:
        """It says each text as it grows, and once more when it is whole."""
        if ident in self._told:
            return
        self._text[ident] = str(part.get("text") or "")
        if object_of(part.get("time")).get("end") is not None:
            self._told.add(ident)
            text = self._text.pop(ident)
            if text:
                yield {"event": "text", "text": text}

    def _call(self, part: Json, *, is_ours: bool) -> Iterator[Json]:
        call, state = str(part.get("callID") or part.get("id")), object_of(part.get("state"))
        given, status = object_of(state.get("input")), state.get("status")
        is_over = status in {"completed", "error"}
        if given:
            self.inputs[call] = given
        if is_over:
            self.inputs.pop(call, None)
        if not is_ours or status == "pending":
            return
        if f"call {call}" not in self._told:
            self._told.add(f"call {call}")
            name = str(part.get("tool") or "tool")
            yield {"event": "tool_call", "id": call, "name": name, "arguments": given}
        if is_over and f"result {call}" not in self._told:
            self._told.add(f"result {call}")
            is_error = status == "error"
            text = str(state.get("error" if is_error else "output") or "")[:RESULT_CHARS]
            yield {"event": "tool_result", "id": call, "text": text, "is_error": is_error}

    def _used(self, part: Json, *, is_ours: bool) -> Iterator[Json]:
        told = object_of(part.get("tokens"))
        kinds, cost = object_of(told.get("cache")), part.get("cost")
        cached = _count(kinds.get("read")) + _count(kinds.get("write"))
        fresh = _count(told.get("input"))
        out = _count(told.get("output")) + _count(told.get("reasoning"))
        used: Json = {"event": "usage", "in": fresh, "out": out, "cache": cached}
        yield {**used, "cost": cost if isinstance(cost, int | float) else None, "is_total": False}
        if is_ours and fresh + cached:
            yield {"event": "context", "used": fresh + cached + out, "limit": self._window}

    def _trouble(self, error: Json) -> Iterator[Json]:
        """What ended the turn; it is said of the session, and of the message."""
        if not error:
            return
        if error.get("name") == _ABORTED:
            self._reason = "aborted"
            return
        faults = list(_faults(error))
        if self._fault != faults[0]["text"]:
            self._fault = str(faults[0]["text"])
            yield from faults


def _faults(error: Json) -> Iterator[Json]:
    facts = object_of(error.get("data"))
    status = facts.get("statusCode")
    status = status if isinstance(status, int) and not isinstance(status, bool) else None
    words = str(facts.get("message") or error.get("message") or "")
    text = f"{error.get('name') or 'error'}: {words}"
    if status is not None:
        text = f"{text}\nAPI error status {status}"
    wait = _wait(object_of(facts.get("responseHeaders")))
    text = text[:FAULT_CHARS]
    yield {"event": "fault", "text": text, "status": status, "retry_after_seconds": wait}


def _again(status: Json) -> Iterator[Json]:
    """It tries again later."""
    if status.get("type") != "retry":
        return
    attempt, when = status.get("attempt"), status.get("next")
    wait = max(0.0, when / 1000 - time.time()) if isinstance(when, int | float) else None
    yield {
        "event": "retry",
        "attempt": attempt if isinstance(attempt, int) else None,
        "most": None,
        "wait_seconds": None if wait is None else round(wait, 1),
        "status": None,
        "reason": str(status.get("message") or "")[:200] or None,
    }


def _wait(headers: Json) -> float | None:
    """Seconds until it may be asked again; a date instead of seconds is not read."""
    for key, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(str(headers[key])[:20]) * unit)
        except (KeyError, ValueError):
            continue
    return None


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e15 else 0


def object_of(value: object) -> Json:
    """The JSON object that this is; else an empty one."""
    return cast("Json", value) if isinstance(value, dict) else {}


def list_of(value: object) -> list[object]:
    """The JSON array that this is; else an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []
