"""What a run's program says of itself, in one form, whatever its dialect. Pure.

Each dialect's reader turns standard output into these events. As JSON they are one object a line with the
key `event`: that is the dialect `events`, which programs of ours print.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: Says nothing about itself.
PLAIN = "plain"
#: Output dialects that can be read.
DIALECTS = (
    PLAIN,
    "claude-stream",
    "codex-json",
    "gemini-stream",
    "opencode-json",
    "qwen-stream",
    "copilot-json",
    "cline-json",
    "vibe-stream",
    "events",
)


@dataclass(frozen=True, slots=True)
class Started:
    """It began. What it does not say is None: no tools at all is an empty tuple.

    `servers` are the MCP servers it was told of and how each stands, in its own word.
    """

    session_id: str | None = None
    model: str | None = None
    tools: tuple[str, ...] | None = None
    servers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """Its model wrote this."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Its model uses a tool. Arguments that are too long to keep whole are the beginning of their JSON."""

    id: str
    name: str
    arguments: dict[str, Any] | str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of the call with that id, and how long it took where the program says so."""

    id: str
    text: str
    is_error: bool = False
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ToolDelta:
    """A piece of the arguments of a call that its model is still writing."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Its provider did not answer; it waits and asks again. `attempt` counts from 1."""

    attempt: int | None = None
    most: int | None = None
    wait_seconds: float | None = None
    status: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """How a limit of its account stands; `used` is a share, 0 to 1, `resets_at` ISO 8601 in UTC."""

    window: str | None
    status: Literal["allowed", "warning", "rejected"]
    used: float | None = None
    resets_at: str | None = None


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens and US dollars it used, each token once: `fresh` came from no cache.

    With `is_total` it is all of the session so far and replaces what was told before, else it is added.
    A step that is told anew as it grows comes as the difference, which may be negative. `is_partial`:
    there was more that is not told. `models` says it of each model, where the program does.
    """

    fresh: int = 0
    out: int = 0
    cache: int = 0
    cost: float | None = None
    is_total: bool = False
    is_partial: bool = False
    models: Mapping[str, Used] | None = None


@dataclass(frozen=True, slots=True)
class ContextUse:
    """Tokens that its model has before it now, and how many it takes."""

    used: int
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Compaction:
    """It shortened what its model has before it."""

    text: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something it calls an error; a good result later means that it got over it."""

    text: str
    status: int | None = None
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Permission:
    """It wants leave to do something, or got or was refused it."""

    id: str
    title: str
    decision: Literal["asked", "allowed", "denied"]


@dataclass(frozen=True, slots=True)
class Result:
    """It is done, as it says itself."""

    is_error: bool
    text: str | None = None
    stop_reason: str | None = None


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A line that is longer than any that is read."""

    size_bytes: int


Event = (
    Started
    | Text
    | ToolCall
    | ToolResult
    | ToolDelta
    | Retry
    | Limit
    | Used
    | ContextUse
    | Compaction
    | Fault
    | Permission
    | Result
    | PassedOver
)


def to_json(event: Event) -> dict[str, Any]:
    """The event as one object of the dialect `events`."""
    word = _WORDS[type(event)]
    told: dict[str, Any] = {name: getattr(event, name) for name in event.__slots__}
    if isinstance(event, Used):
        told["in"] = told.pop("fresh")
        models = told.pop("models")
        if models is not None:
            told["models"] = {name: _use(one) for name, one in models.items()}
        if not told.pop("is_partial"):
            return {"event": word, **told}
        return {"event": word, **told, "is_partial": True}
    if isinstance(event, Started):
        told["tools"] = None if event.tools is None else list(event.tools)
        told["servers"] = None if event.servers is None else dict(event.servers)
    return {"event": word, **told}


def _use(used: Used) -> dict[str, Any]:
    return {"in": used.fresh, "out": used.out, "cache": used.cache, "cost": used.cost}


_WORDS: dict[type[Event], str] = {
    Started: "started",
    Text: "text",
    ToolCall: "tool_call",
    ToolResult: "tool_result",
    ToolDelta: "tool_delta",
    Retry: "retry",
    Limit: "limit",
    Used: "usage",
    ContextUse: "context",
    Compaction: "compaction",
    Fault: "fault",
    Permission: "permission",
    Result: "result",
    PassedOver: "passed_over",
}
