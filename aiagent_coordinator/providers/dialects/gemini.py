"""Gemini CLI's `-o stream-json`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from aiagent_coordinator.providers.dialects.base import Reader
from aiagent_coordinator.providers.dialects.codex import message_of, with_cache_inside
from aiagent_coordinator.providers.dialects.models import of_gemini
from aiagent_coordinator.providers.dialects.values import (
    Json,
    arguments,
    content,
    mapping,
    name,
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
)

_CODE = re.compile(r'"code":\s{0,4}(\d{3})\b')
_AGAIN = re.compile(r'"retryDelay":\s{0,4}"(\d{1,7}(?:\.\d{1,9})?)s"')


class Gemini(Reader):
    """Reads gemini's lines."""

    def read(self, told: Json) -> Iterator[Event]:
        """The events of one line."""
        match told.get("type"):
            case "init":
                yield Started(said(told.get("session_id")), said(told.get("model")))
            case "message" if told.get("role") == "assistant":
                yield Text(text(told.get("content")))
            case "tool_use":
                call, tool = name(told.get("tool_id")), name(told.get("tool_name"))
                self.begin(call, tool, told.get("timestamp"))
                yield ToolCall(call, tool, arguments(told.get("parameters"), self.line_bytes))
            case "tool_result":
                call = name(told.get("tool_id"))
                is_error = told.get("status") == "error"
                words = content(told.get("output")) or message_of(told.get("error"))
                yield ToolResult(call, words, is_error, self.end(call, told.get("timestamp")))
            case "error" if told.get("severity") != "warning":
                yield _fault(text(told.get("message"), 4000))
            case "result":
                yield from _result(told)
            case _:
                return


def _result(told: Json) -> Iterator[Event]:
    if isinstance(told.get("stats"), dict):
        stats = mapping(told["stats"])
        models = of_gemini(mapping(stats.get("models")))
        yield replace(with_cache_inside(stats, "cached"), models=models)
    if told.get("status") == "error":
        words = message_of(told.get("error"))
        yield _fault(words)
        yield Result(is_error=True, text=words or None)
    elif told.get("status") == "success":
        yield Result(is_error=False)


def _fault(words: str) -> Fault:
    code, again = _CODE.search(words), _AGAIN.search(words)
    return Fault(words, int(code[1]) if code else None, float(again[1]) if again else None)
