"""Codex's `exec --json`. Its input counts what came from the cache; thought tokens are in its output."""

from __future__ import annotations

import re
from collections.abc import Iterator

from aiagent_coordinator.providers.dialects.base import Reader
from aiagent_coordinator.providers.dialects.values import (
    Json,
    arguments,
    content,
    count,
    mapping,
    name,
    said,
    text,
)
from aiagent_coordinator.providers.events import (
    Compaction,
    Event,
    Fault,
    Result,
    Retry,
    Started,
    Text,
    ToolCall,
    ToolResult,
    Used,
)

_AGAIN = re.compile(r"[Rr]econnecting\W{0,5}(?:(\d{1,3})/(\d{1,3}))?")
_STATUS = re.compile(r"status:? (\d{3})")
#: Kinds of items that are work, and the name of the tool.
_TOOLS = {
    "command_execution": "shell",
    "file_change": "apply_patch",
    "web_search": "web_search",
    "mcp_tool_call": "",
}


class Codex(Reader):
    """Reads codex's lines."""

    def read(self, told: Json) -> Iterator[Event]:
        """The events of one line."""
        match told.get("type"):
            case "thread.started":
                yield Started(said(told.get("thread_id")))
            case "item.started" | "item.updated":
                yield from self._begin_item(mapping(told.get("item")))
            case "item.completed":
                yield from self._end_item(mapping(told.get("item")))
            case "error":
                yield from _trouble(text(told.get("message"), 4000))
            case "turn.failed":
                words = message_of(told.get("error"))
                yield Fault(words, status_in(words))
                yield Result(is_error=True, text=words or None)
            case "turn.completed":
                if isinstance(told.get("usage"), dict):
                    yield with_cache_inside(mapping(told["usage"]), "cached_input_tokens")
                yield Result(is_error=False)
            case _:
                return

    def _begin_item(self, item: Json) -> Iterator[Event]:
        kind, call = name(item.get("type")), name(item.get("id"))
        if kind not in _TOOLS or self.is_begun(call):
            return
        tool = _TOOLS[kind] or f"mcp__{name(item.get('server'))}__{name(item.get('tool'))}"
        self.begin(call, tool)
        given = item.get("arguments")
        if kind != "mcp_tool_call":
            given = {key: item[key] for key in ("command", "changes", "query") if key in item}
        yield ToolCall(call, tool, arguments(given, self.line_bytes))

    def _end_item(self, item: Json) -> Iterator[Event]:
        kind, call = name(item.get("type")), name(item.get("id"))
        if kind == "agent_message":
            yield Text(text(item.get("text")))
        elif kind in {"context_compaction", "compaction"}:
            yield Compaction()
        elif kind in _TOOLS:
            yield from self._begin_item(item)
            self.end(call)
            given = mapping(item.get("result")).get("content", item.get("aggregated_output"))
            words = content(given) or message_of(item.get("error"))
            is_error = item.get("status") in {"failed", "declined"} or bool(item.get("exit_code"))
            yield ToolResult(call, words, is_error)


def _trouble(words: str) -> Iterator[Event]:
    """`error` is also what it calls a retry that may succeed."""
    again = _AGAIN.search(words)
    if again:
        attempt, most = (int(part) if part else None for part in again.groups())
        yield Retry(attempt, most, None, status_in(words), words[:200])
    yield Fault(words, status_in(words))


def status_in(words: str) -> int | None:
    """The HTTP status in a sentence of an error."""
    found = _STATUS.search(words[:4000])
    return int(found[1]) if found else None


def message_of(error: object) -> str:
    """The words of an error, which may be an object."""
    if isinstance(error, dict):
        known = mapping(error)  # pyright: ignore[reportUnknownArgumentType] - JSON
        return " ".join(text(known[key], 4000) for key in ("type", "message") if known.get(key))
    return text(error, 4000)


def with_cache_inside(told: Json, cached_key: str) -> Used:
    """A total of which the input has what came from the cache as well."""
    cached = count(told.get(cached_key))
    fresh = max(0, count(told.get("input_tokens")) - cached)
    return Used(fresh, count(told.get("output_tokens")), cached, is_total=True)
