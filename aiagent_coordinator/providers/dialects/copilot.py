"""GitHub Copilot CLI's `--output-format json`: lines of dotted types with their facts in `data`."""

from __future__ import annotations

from collections.abc import Iterator

from aiagent_coordinator.providers.dialects.base import Reader
from aiagent_coordinator.providers.dialects.codex import message_of, status_in
from aiagent_coordinator.providers.dialects.values import (
    Json,
    arguments,
    content,
    count,
    items,
    mapping,
    name,
    said,
    text,
    whole,
)
from aiagent_coordinator.providers.events import (
    Compaction,
    ContextUse,
    Event,
    Fault,
    Result,
    Started,
    Text,
    ToolCall,
    ToolDelta,
    ToolResult,
    Used,
)


class Copilot(Reader):
    """Reads copilot's lines."""

    def read(self, told: Json) -> Iterator[Event]:
        """The events of one line."""
        facts = mapping(told.get("data")) or told
        match told.get("type"):
            case "session.start":
                yield Started(said(facts.get("sessionId")), said(facts.get("selectedModel")))
            case "session.mcp_server_status_changed":
                yield Started(servers={name(facts.get("serverName")): name(facts.get("status"))})
            case "session.mcp_servers_loaded":
                servers = items(facts.get("servers"))
                yield Started(
                    servers={name(one.get("name")): name(one.get("status")) for one in servers}
                )
            case "assistant.message" if facts.get("content"):
                yield Text(text(facts.get("content")))
            case "assistant.usage":
                yield from self._used(facts)
            case "assistant.tool_call_delta":
                yield ToolDelta(name(facts.get("toolCallId")), text(facts.get("inputDelta")))
            case "tool.execution_start":
                call, tool = name(facts.get("toolCallId")), name(facts.get("toolName"))
                self.begin(call, tool, told.get("timestamp"))
                yield ToolCall(call, tool, arguments(facts.get("arguments"), self.line_bytes))
            case "tool.execution_complete":
                yield self._tool_result(told, facts)
            case "result":
                yield from _result(told)
            case kind:
                yield from _session(kind, facts)

    def _tool_result(self, told: Json, facts: Json) -> Event:
        call, given = name(facts.get("toolCallId")), mapping(facts.get("result"))
        words = content(given.get("content")) or message_of(facts.get("error"))
        is_error = facts.get("success") is False
        return ToolResult(call, words, is_error, self.end(call, told.get("timestamp")))

    def _used(self, facts: Json) -> Iterator[Event]:
        """One answer of its model; the input counts what came from the cache."""
        cached = count(facts.get("cacheReadTokens"))
        fresh = max(0, count(facts.get("inputTokens")) - cached)
        yield Used(fresh, count(facts.get("outputTokens")), cached)


def _session(kind: object, facts: Json) -> Iterator[Event]:
    match kind:
        case "session.compaction_complete":
            yield Compaction()
        case "session.usage_info":
            limit = whole(facts.get("tokenLimit"))
            yield ContextUse(count(facts.get("currentTokens")), limit or None)
        case "session.error":
            words = message_of(facts)
            status = whole(facts.get("statusCode")) or status_in(words)
            yield Fault(words, status)
            if status:
                yield Fault(f"API error status {status}", status)
        case _:
            return


def _result(told: Json) -> Iterator[Event]:
    if said(told.get("sessionId")):
        yield Started(said(told.get("sessionId")))
    yield Result(is_error=bool(told.get("exitCode")))
