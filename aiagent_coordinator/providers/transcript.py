"""What a CLI itself calls an error, read from the JSON lines of its standard output. Pure.

Tolerant on purpose: CLIs change weekly, so what is not understood is skipped. Only the fields in which
a CLI states its own failure are read, never what a model wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, cast

from aiagent_coordinator.providers.events import PLAIN

Event = dict[str, Any]
#: Where each dialect names the session: type of the event, and its key.
_SESSIONS = {
    "claude-stream": ("system", "session_id"),
    "codex-json": ("thread.started", "thread_id"),
    "gemini-stream": ("init", "session_id"),
    "opencode-json": ("step_start", "sessionID"),
    "qwen-stream": ("system", "session_id"),
}
#: It becomes a word of a command line.
_SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
#: A longer line is a tool's output, not an error.
_MAX_LINE_BYTES = 64 * 1024


def error_texts(dialect: str, out: bytes) -> list[str]:
    """The errors that a CLI states in its output and did not get over, oldest first.

    Args:
        dialect: One of `DIALECTS`.
        out: The end of its standard output; a first line cut in two is skipped.
    """
    texts: list[str] = []
    for event in _events(out) if dialect != PLAIN else ():
        read = _DIALECTS.get(dialect)
        found = read(event) if read else []
        if found is None:
            texts.clear()  # it ended well: whatever went wrong before was got over
        else:
            texts += [text for text in found if text]
    return texts


def session_id(dialect: str, out: bytes) -> str | None:
    """What a CLI calls its session, to go on with later; None when it does not say.

    Args:
        dialect: One of `DIALECTS`.
        out: The beginning of its standard output.
    """
    where = _SESSIONS.get(dialect)
    if where is None:
        return None
    kind, key = where
    for event in _events(out):
        found = event.get(key)
        if event.get("type") == kind and isinstance(found, str) and _SESSION_ID.match(found):
            return found
    return None


def _events(out: bytes) -> Iterable[Event]:
    for line in out.splitlines():
        if not line.startswith(b"{") or len(line) > _MAX_LINE_BYTES:
            continue
        try:
            event: object = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            yield cast("Event", event)


def _claude(event: Event) -> list[str] | None:
    """`result` says how it ended; its subtype may be `success` beside `is_error`."""
    match event.get("type"):
        case "assistant" if event.get("error"):
            return [str(event["error"])]
        case "result" if event.get("is_error"):
            status = event.get("api_error_status")
            errors = event.get("errors")
            listed = cast("list[object]", errors) if isinstance(errors, list) else []
            subtype = event.get("subtype")
            return [
                *(str(error) for error in listed),
                str(event.get("result") or ""),
                f"API error status {status}" if status else "",
                str(subtype) if subtype != "success" else "",
            ]
        case "result":
            return None
        case _:
            return []


def _codex(event: Event) -> list[str] | None:
    """`error` is also what it calls a retry that may succeed."""
    match event.get("type"):
        case "error":
            return [str(event.get("message") or "")]
        case "turn.failed":
            return [_message(event.get("error"))]
        case "turn.completed":
            return None
        case _:
            return []


def _gemini(event: Event) -> list[str] | None:
    match event.get("type"), event.get("status"):
        case "error", _:
            is_warning = event.get("severity") == "warning"
            return [] if is_warning else [str(event.get("message") or "")]
        case "result", "error":
            return [_message(event.get("error"))]
        case "result", "success":
            return None
        case _:
            return []


def _qwen(event: Event) -> list[str] | None:
    """As `_claude`, but the words stand in an object of their own."""
    if event.get("type") == "result" and event.get("is_error"):
        return [_message(event.get("error")), *(_claude(event) or [])]
    return _claude(event)


def _opencode(event: Event) -> list[str] | None:
    """It has no last line: the last step's reason is `stop` when it ended well."""
    match event.get("type"):
        case "error":
            return _opencode_error(event.get("error"))
        case "step_finish":
            part = event.get("part")
            is_last = isinstance(part, dict) and cast("Event", part).get("reason") == "stop"
            return None if is_last else []
        case _:
            return []


def _opencode_error(error: object) -> list[str]:
    if not isinstance(error, dict):
        return [str(error or "")]
    known = cast("Event", error)
    data = known.get("data")
    facts = cast("Event", data) if isinstance(data, dict) else {}
    status = facts.get("statusCode")
    return [
        f"{known.get('name') or 'error'}: {facts.get('message') or known.get('message') or ''}",
        f"API error status {status}" if status else "",
    ]


def _message(error: object) -> str:
    if isinstance(error, dict):
        known = cast("Event", error)
        return " ".join(str(known[key]) for key in ("type", "message") if known.get(key))
    return str(error or "")


_DIALECTS: dict[str, Callable[[Event], list[str] | None]] = {
    PLAIN: lambda _event: [],
    "claude-stream": _claude,
    "codex-json": _codex,
    "gemini-stream": _gemini,
    "opencode-json": _opencode,
    "qwen-stream": _qwen,
}
