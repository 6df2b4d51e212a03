"""The dialect `events`: what programs of ours print, and whoever wants to be understood as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

from aiagent_coordinator.providers.dialects.base import Reader
from aiagent_coordinator.providers.dialects.models import MAX_MODELS
from aiagent_coordinator.providers.dialects.values import (
    Json,
    arguments,
    count,
    mapping,
    name,
    names,
    number,
    said,
    text,
    whole,
)
from aiagent_coordinator.providers.events import (
    Compaction,
    ContextUse,
    Event,
    Fault,
    Limit,
    Permission,
    Result,
    Retry,
    Started,
    Text,
    ToolCall,
    ToolDelta,
    ToolResult,
    Used,
)

_STATUSES: dict[object, Literal["allowed", "warning", "rejected"]] = {
    "warning": "warning",
    "rejected": "rejected",
}
_DECISIONS: dict[object, Literal["asked", "allowed", "denied"]] = {
    "allowed": "allowed",
    "denied": "denied",
}


class Ours(Reader):
    """Reads events as JSON."""

    def read(self, told: Json) -> Iterator[Event]:
        """The event of one line."""
        make = _MAKERS.get(name(told.get("event")))
        if make is not None:
            yield make(told, self.line_bytes)


def _started(told: Json, _size: int) -> Event:
    servers = list(mapping(told.get("servers")).items())[:100]
    return Started(
        said(told.get("session_id")),
        said(told.get("model")),
        names(told.get("tools")),
        {name(key): name(value) for key, value in servers} if told.get("servers") else None,
    )


def _retry(told: Json, _size: int) -> Event:
    return Retry(
        whole(told.get("attempt")),
        whole(told.get("most")),
        number(told.get("wait_seconds")),
        whole(told.get("status")),
        said(told.get("reason")),
    )


def _limit(told: Json, _size: int) -> Event:
    used = number(told.get("used"))
    return Limit(
        said(told.get("window")),
        _STATUSES.get(told.get("status"), "allowed"),
        None if used is None else min(1.0, used),
        said(told.get("resets_at")),
    )


def _usage(told: Json, _size: int) -> Event:
    listed = list(mapping(told.get("models")).items())[:MAX_MODELS]
    models = {name(model): _use(mapping(one)) for model, one in listed}
    return replace(_use(told), models=models or None)


def _use(told: Json) -> Used:
    return Used(
        count(told.get("in")),
        count(told.get("out")),
        count(told.get("cache")),
        number(told.get("cost")),
        is_total=told.get("is_total") is True,
        is_partial=told.get("is_partial") is True,
    )


def _fault(told: Json, _size: int) -> Event:
    wait = number(told.get("retry_after_seconds"))
    return Fault(text(told.get("text"), 4000), whole(told.get("status")), wait)


def _permission(told: Json, _size: int) -> Event:
    decision = _DECISIONS.get(told.get("decision"), "asked")
    return Permission(name(told.get("id")), name(told.get("title")), decision)


_MAKERS: dict[str, Callable[[Json, int], Event]] = {
    "started": _started,
    "text": lambda told, _: Text(text(told.get("text"))),
    "tool_call": lambda told, size: ToolCall(
        name(told.get("id")), name(told.get("name")), arguments(told.get("arguments"), size)
    ),
    "tool_result": lambda told, _: ToolResult(
        name(told.get("id")),
        text(told.get("text")),
        told.get("is_error") is True,
        number(told.get("seconds")),
    ),
    "tool_delta": lambda told, _: ToolDelta(name(told.get("id")), text(told.get("text"))),
    "retry": _retry,
    "limit": _limit,
    "usage": _usage,
    "context": lambda told, _: ContextUse(count(told.get("used")), whole(told.get("limit"))),
    "compaction": lambda told, _: Compaction(said(told.get("text"))),
    "fault": _fault,
    "permission": _permission,
    "result": lambda told, _: Result(
        told.get("is_error") is True, text(told.get("text")) or None, said(told.get("stop_reason"))
    ),
}
