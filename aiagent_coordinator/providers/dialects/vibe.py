"""Mistral Vibe's `--output streaming`: the messages of its conversation, one a line. It tells no usage."""

from __future__ import annotations

import json
from collections.abc import Iterator

from aiagent_coordinator.providers.dialects.base import Reader
from aiagent_coordinator.providers.dialects.values import (
    Json,
    arguments,
    content,
    items,
    mapping,
    name,
    said,
    text,
)
from aiagent_coordinator.providers.events import Event, Started, Text, ToolCall, ToolResult


class Vibe(Reader):
    """Reads vibe's lines."""

    def read(self, told: Json) -> Iterator[Event]:
        """The events of one line."""
        if said(told.get("session_id")):
            yield Started(said(told.get("session_id")))
        match told.get("role"):
            case "assistant":
                if told.get("content"):
                    yield Text(content(told["content"]))
                for call in items(told.get("tool_calls")):
                    function = mapping(call.get("function"))
                    known = function or call
                    yield ToolCall(
                        name(call.get("id")),
                        name(known.get("name")),
                        self._arguments(known.get("arguments")),
                    )
            case "tool":
                words = content(told.get("content"))
                is_error = text(words, 20).startswith(("<tool_error>", "Error"))
                yield ToolResult(name(told.get("tool_call_id")), words, is_error)
            case _:
                return

    def _arguments(self, given: object) -> Json | str:
        """They are JSON in a text."""
        if not isinstance(given, str) or len(given) > self.line_bytes:
            return arguments(given, self.line_bytes)
        try:
            return arguments(json.loads(given), self.line_bytes)
        except (ValueError, RecursionError):
            return text(given)
