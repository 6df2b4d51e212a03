"""OpenCode's `run --format json`. It has no last line: the last step's reason is `stop` when it ended well."""

from __future__ import annotations

from collections.abc import Iterator

from aiagent_coordinator.providers.dialects.base import Reader
from aiagent_coordinator.providers.dialects.values import (
    Json,
    arguments,
    content,
    count,
    mapping,
    name,
    number,
    said,
    seconds_of,
    text,
    whole,
)
from aiagent_coordinator.providers.events import (
    ContextUse,
    Event,
    Fault,
    Result,
    Started,
    Text,
    ToolCall,
    ToolResult,
    Used,
)


class Opencode(Reader):
    """Reads opencode's lines."""

    def __init__(self) -> None:
        super().__init__()
        self._is_started = False

    def read(self, told: Json) -> Iterator[Event]:
        """The events of one line."""
        part = mapping(told.get("part"))
        match told.get("type"):
            case "step_start" if not self._is_started:
                self._is_started = True
                yield Started(said(told.get("sessionID")))
            case "text":
                yield Text(text(part.get("text")))
            case "tool_use":
                yield from self._tool(part)
            case "step_finish":
                yield from self._step(part)
            case "error":
                yield from _faults(told.get("error"))
            case _:
                return

    def _tool(self, part: Json) -> Iterator[Event]:
        """It tells of a call when it is over."""
        call, state = name(part.get("callID") or part.get("id")), mapping(part.get("state"))
        yield ToolCall(call, name(part.get("tool")), arguments(state.get("input"), self.line_bytes))
        if state.get("status") in {"completed", "error"}:
            times = mapping(state.get("time"))
            began, ended = seconds_of(times.get("start")), seconds_of(times.get("end"))
            seconds = None if began is None or ended is None else round(max(0.0, ended - began), 3)
            words = content(state.get("output")) or text(state.get("error"))
            yield ToolResult(call, words, state.get("status") == "error", seconds)

    def _step(self, part: Json) -> Iterator[Event]:
        if isinstance(part.get("tokens"), dict):
            told = mapping(part["tokens"])
            kinds = mapping(told.get("cache"))
            cached = count(kinds.get("read")) + count(kinds.get("write"))
            out = count(told.get("output")) + count(told.get("reasoning"))
            used = Used(count(told.get("input")), out, cached, number(part.get("cost")))
            yield self.grown(name(part.get("id")), used)
            if used.fresh + used.cache:
                yield ContextUse(used.fresh + used.cache + used.out)
        if part.get("reason") == "stop":
            yield Result(is_error=False, stop_reason="stop")


def _faults(error: object) -> Iterator[Event]:
    if not isinstance(error, dict):
        yield Fault(text(error, 4000))
        return
    known = mapping(error)  # pyright: ignore[reportUnknownArgumentType] - JSON
    facts = mapping(known.get("data"))
    status = whole(facts.get("statusCode"))
    headers = mapping(facts.get("responseHeaders"))
    wait = _wait(headers)
    words = text(facts.get("message") or known.get("message"), 4000)
    yield Fault(f"{name(known.get('name')) or 'error'}: {words}", status, wait)
    if status:
        yield Fault(f"API error status {status}", status, wait)


def _wait(headers: Json) -> float | None:
    """Seconds until it may be asked again; a date instead of seconds is not read."""
    for key, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            found = number(float(str(headers.get(key))[:20]))
        except ValueError:
            continue
        if found is not None:
            return found * unit
    return None
