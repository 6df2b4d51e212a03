"""Mistral Vibe's `--output streaming`: messages and effects of its conversation, one a line when it is over.

It tells no usage; what it stopped at, and its faults, stand on standard error.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiagent_coordinator.providers.dialects.base import Reader
from aiagent_coordinator.providers.dialects.codex import message_of
from aiagent_coordinator.providers.dialects.values import (
    Json,
    arguments,
    content,
    mapping,
    name,
    number,
    said,
)
from aiagent_coordinator.providers.events import Event, Started, Text, ToolCall, ToolResult

#: Where an effect is before it is over.
_ON = {"pending", "running", "in_progress", "awaiting_approval"}


class Vibe(Reader):
    """Reads vibe's lines."""

    def __init__(self) -> None:
        super().__init__()
        self._session: str | None = None

    def read(self, told: Json) -> Iterator[Event]:
        """The events of one line."""
        session = said(told.get("sessionId"))
        if session and session != self._session:
            self._session = session
            yield Started(session)
        match told.get("type"):
            case "message" if told.get("role") == "assistant":
                words = content(told.get("content"))
                if words:
                    yield Text(words)
            case "effect":
                yield from self._effect(told)
            case _:
                return

    def _effect(self, told: Json) -> Iterator[Event]:
        """A call of a tool: it is told of when it is over, so both ends of it come at once."""
        call, detail, state = name(told.get("id")), mapping(told.get("detail")), mapping(told.get("state"))  # fmt: skip
        if not self.is_begun(call):
            tool = name(detail.get("toolName")) or name(told.get("title"))
            self.begin(call, tool)
            yield ToolCall(call, tool, arguments(detail.get("input"), self.line_bytes))
        if state.get("status") in _ON:
            return
        self.end(call)
        is_error = state.get("status") != "completed"
        milliseconds = number(state.get("durationMs"))
        seconds = None if milliseconds is None else milliseconds / 1000
        words = message_of(state.get("error")) if is_error else content(state.get("outputText"))
        yield ToolResult(call, words, is_error, seconds)
