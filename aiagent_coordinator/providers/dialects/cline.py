"""Cline's `--json`: lines of which `agent_event` holds what its agent does."""

from __future__ import annotations

from collections.abc import Iterator

from aiagent_coordinator.providers.dialects.base import Reader
from aiagent_coordinator.providers.dialects.codex import message_of, status_in
from aiagent_coordinator.providers.dialects.values import (
    Json,
    arguments,
    content,
    count,
    mapping,
    name,
    number,
    said,
    text,
)
from aiagent_coordinator.providers.events import (
    Event,
    Fault,
    Result,
    Started,
    Text,
    ToolCall,
    ToolResult,
    Used,
)


class Cline(Reader):
    """Reads cline's lines."""

    def read(self, told: Json) -> Iterator[Event]:
        """The events of one line."""
        match told.get("type"):
            case "agent_event":
                yield from self._event(mapping(told.get("event")))
            case "run_start" | "session_start":
                session = said(told.get("sessionId"))
                yield Started(session, said(mapping(told.get("model")).get("id") or told.get("modelId")))  # fmt: skip
            case "run_result":
                yield from _result(told)
            case "error":
                words = text(told.get("message"), 4000) or message_of(told.get("error"))
                yield Fault(words, status_in(words))
            case _:
                return

    def _event(self, told: Json) -> Iterator[Event]:
        match told.get("type"):
            case "usage":
                cached = count(told.get("totalCacheReadTokens"))
                yield Used(
                    count(told.get("totalInputTokens")),
                    count(told.get("totalOutputTokens")),
                    cached + count(told.get("totalCacheWriteTokens")),
                    number(told.get("totalCost")),
                    is_total=True,
                )
            case "content_start" if told.get("contentType") == "tool":
                call, tool = name(told.get("toolCallId")), name(told.get("toolName"))
                self.begin(call, tool)
                yield ToolCall(call, tool, arguments(told.get("input"), self.line_bytes))
            case "content_end" if told.get("contentType") == "tool":
                call, error = name(told.get("toolCallId")), told.get("error")
                self.end(call)
                milliseconds = number(told.get("durationMs"))
                seconds = None if milliseconds is None else milliseconds / 1000
                words = message_of(error) if error else content(told.get("output"))
                yield ToolResult(call, words, bool(error), seconds)
            case "content_end" if told.get("contentType") == "text":
                yield Text(text(told.get("text")))
            case "error":
                kind, words = name(told.get("errorClass")), message_of(told.get("error"))
                yield Fault(f"{kind}: {words}" if kind else words, status_in(words))
            case _:
                return


def _result(told: Json) -> Iterator[Event]:
    used = mapping(told.get("aggregateUsage"))
    if used:
        cached = count(used.get("cacheReadTokens")) + count(used.get("cacheWriteTokens"))
        fresh, out = count(used.get("inputTokens")), count(used.get("outputTokens"))
        yield Used(fresh, out, cached, number(used.get("totalCost")), is_total=True)
    stop = said(told.get("finishReason"))
    words = text(told.get("text")) or None
    is_error = stop in {"error", "aborted"}
    if is_error and words:
        yield Fault(words[:4000], status_in(words))
    yield Result(is_error, words, stop)
