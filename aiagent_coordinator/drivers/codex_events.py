"""From what Codex's app-server says to events. Pure: JSON in, events out; what is not known is left out.

The protocol is written down by the program itself: `codex app-server generate-json-schema --out DIR`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, cast

Json = dict[str, Any]
#: Of what a tool answered.
RESULT_CHARS: Final = 256 * 1024
#: Kinds of items that are work, and the name of the tool, as `codex exec` calls them.
_TOOLS: Final = {
    "commandExecution": "shell",
    "fileChange": "apply_patch",
    "webSearch": "web_search",
    "mcpToolCall": "",
    "dynamicToolCall": "",
}
#: What the program calls its errors, where that stands for a status of HTTP.
_STATUS: Final = {
    "unauthorized": 401,
    "usageLimitExceeded": 429,
    "rateLimitExceeded": 429,
    "serverOverloaded": 529,
    "internalServerError": 500,
}
_AGAIN: Final = re.compile(r"econnecting\W{0,5}(\d{1,3})/(\d{1,3})")


class Translator:
    """Follows one thread from the first turn of this process on."""

    def __init__(self) -> None:
        self._begun: set[str] = set()
        #: What the thread had used before: a thread that is gone on with counts from its beginning.
        self._before: Json | None = None

    def notice(self, method: str, params: Json) -> Iterator[Json]:
        """What one notification says."""
        match method:
            case "item/started":
                yield from self._begin(_object(params.get("item")))
            case "item/completed":
                yield from self._end(_object(params.get("item")))
            case "thread/tokenUsage/updated":
                yield from self._used(_object(params.get("tokenUsage")))
            case "account/rateLimits/updated":
                yield from _limits(_object(params.get("rateLimits")))
            case "error":
                yield from _trouble(params)
            case "turn/completed":
                yield from _turn_over(_object(params.get("turn")))
            case _:
                return

    def _begin(self, item: Json) -> Iterator[Json]:
        kind, ident = str(item.get("type")), str(item.get("id"))
        if kind not in _TOOLS or ident in self._begun:
            return
        self._begun.add(ident)
        given: object = item.get("arguments")
        name = _TOOLS[kind]
        if kind == "mcpToolCall":
            name = f"mcp__{item.get('server')}__{item.get('tool')}"
        elif kind == "dynamicToolCall":
            name = str(item.get("tool"))
        elif kind == "fileChange":
            given = {"paths": paths_of(item)}
        else:
            given = {key: item[key] for key in ("command", "query") if key in item}
        yield {"event": "tool_call", "id": ident, "name": name, "arguments": given or {}}

    def _end(self, item: Json) -> Iterator[Json]:
        kind, ident = str(item.get("type")), str(item.get("id"))
        if kind == "agentMessage":
            yield {"event": "text", "text": str(item.get("text") or "")}
        elif kind == "contextCompaction":
            yield {"event": "compaction", "text": None}
        elif kind in _TOOLS:
            yield from self._begin(item)
            is_error = item.get("status") in {"failed", "declined"} or bool(item.get("exitCode"))
            words = _answered(item)[:RESULT_CHARS]
            yield {"event": "tool_result", "id": ident, "text": words, "is_error": is_error}

    def _used(self, told: Json) -> Iterator[Json]:
        total, last = _counts(told.get("total")), _counts(told.get("last"))
        if self._before is None:
            self._before = {key: max(0, total[key] - last[key]) for key in total}
        since = {key: max(0, total[key] - self._before[key]) for key in total}
        yield {"event": "usage", **since, "cost": None, "is_total": True}
        limit = told.get("modelContextWindow")
        window = limit if isinstance(limit, int) and limit > 0 else None
        yield {"event": "context", "used": sum(last.values()), "limit": window}


def paths_of(item: Json) -> list[str]:
    """The files that a change of files is about, also those that others become."""
    changes: object = item.get("changes")
    listed = cast("list[object]", changes) if isinstance(changes, list) else []
    found: list[str] = []
    for one in listed:
        change = _object(one)
        moved = _object(change.get("kind")).get("move_path")
        found += [str(path) for path in (change.get("path"), moved) if path]
    return found


def fault_of(error: Json) -> Json:
    """An error of a turn as an event: the program's words, and what kind it calls it."""
    info: object = error.get("codexErrorInfo")
    kind, status = str(info or ""), None
    if isinstance(info, dict):
        kind, about = next(iter(cast("Json", info).items()), ("", None))
        status = _object(about).get("httpStatusCode")
    status = status if isinstance(status, int) else _STATUS.get(kind)
    words = [str(error.get("message") or ""), str(error.get("additionalDetails") or "")]
    # by its own name too: the sentence is for people, and changes
    words.append(kind if kind != "other" else "")
    text = "\n".join(word for word in words if word)
    return {"event": "fault", "text": text, "status": status, "retry_after_seconds": None}


def _trouble(params: Json) -> Iterator[Json]:
    """An error in the middle of a turn; most are tried again."""
    fault = fault_of(_object(params.get("error")))
    if params.get("willRetry"):
        again = _AGAIN.search(str(fault["text"]))
        attempt, most = (int(part) for part in again.groups()) if again else (None, None)
        yield {
            "event": "retry",
            "attempt": attempt,
            "most": most,
            "wait_seconds": None,
            "status": fault["status"],
            "reason": str(fault["text"])[:200],
        }
    yield fault


def _turn_over(turn: Json) -> Iterator[Json]:
    status = str(turn.get("status") or "")
    if status == "failed":
        fault = fault_of(_object(turn.get("error")))
        yield fault
        words = str(fault["text"]) or "the turn failed"
        yield {"event": "result", "is_error": True, "text": words, "stop_reason": status}
    else:
        yield {"event": "result", "is_error": False, "text": None, "stop_reason": status}


def _limits(told: Json) -> Iterator[Json]:
    is_reached = told.get("rateLimitReachedType") is not None
    for name in ("primary", "secondary"):
        window = _object(told.get(name))
        used, resets = window.get("usedPercent"), window.get("resetsAt")
        if not isinstance(used, int):
            continue
        minutes = window.get("windowDurationMins")
        is_full = used >= 100
        yield {
            "event": "limit",
            "window": _period(minutes) if isinstance(minutes, int) else name,
            "status": "rejected"
            if is_full and is_reached
            else "warning"
            if used >= 80
            else "allowed",
            "used": min(max(used, 0), 100) / 100,
            "resets_at": _instant(resets) if isinstance(resets, int) else None,
        }


def _period(minutes: int) -> str:
    """`5h`, `weekly`, or so many minutes."""
    if minutes == 7 * 24 * 60:
        return "weekly"
    return f"{minutes // 60}h" if minutes % 60 == 0 and minutes else f"{minutes}m"


def _instant(seconds: int) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return None


def _counts(told: object) -> Json:
    """Tokens, each counted once: the program's input has what came from its cache."""
    known = _object(told)

    def count(name: str) -> int:
        value = known.get(name)
        return value if isinstance(value, int) and value >= 0 else 0

    cached = count("cachedInputTokens")
    fresh = max(0, count("inputTokens") - cached)
    return {"in": fresh, "out": count("outputTokens"), "cache": cached}


def _answered(item: Json) -> str:
    error = _object(item.get("error")).get("message")
    if error:
        return str(error)
    output: object = item.get("aggregatedOutput")
    if isinstance(output, str):
        return output
    content: object = _object(item.get("result")).get("content", item.get("contentItems"))
    parts = cast("list[object]", content) if isinstance(content, list) else []
    return "\n".join(str(_object(part).get("text") or "") for part in parts)


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}
