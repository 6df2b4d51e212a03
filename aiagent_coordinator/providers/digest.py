"""What follows from the events of one run so far: folded one by one, in memory that does not grow. Pure."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiagent_coordinator.providers.events import (
    Compaction,
    ContextUse,
    Event,
    Fault,
    Limit,
    PassedOver,
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
from aiagent_coordinator.providers.usage import Usage

#: What is kept of what goes on.
MAX_ACTIVITY_CHARS = 200
#: Errors that are kept, of each the beginning.
MAX_FAULTS = 50
#: Compactions whose words are kept.
LAST_COMPACTIONS = 3
#: Windows of limits that are kept.
MAX_LIMITS = 16
#: It becomes a word of a command line.
_SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
#: Arguments that say most of what a call does, the most telling first.
_TELLING = (
    *("command", "cmd", "file_path", "filePath", "path", "pattern", "query", "url"),
    *("description", "title", "summary", "prompt"),
)


@dataclass(frozen=True)
class Context:
    """Tokens that the model has before it, and how many it takes."""

    used: int
    limit: int | None


class Digest:
    """Folds events. `activity` and texts are not masked: whoever shows them does that."""

    def __init__(self) -> None:
        self.session_id: str | None = None
        self.model: str | None = None
        self.tools: tuple[str, ...] | None = None
        self.servers: dict[str, str] | None = None
        #: Errors it did not get over, the oldest first.
        self.faults: deque[Fault] = deque(maxlen=MAX_FAULTS)
        self.result: Result | None = None
        #: The last words of its model.
        self.last_text: str = ""
        self.context: Context | None = None
        self.compactions = 0
        self.last_compactions: deque[str] = deque(maxlen=LAST_COMPACTIONS)
        self.limits: OrderedDict[str, Limit] = OrderedDict()
        #: What it waits for, while it waits.
        self.retry: Retry | None = None
        self.retries = 0
        self.turns = 0
        self.tool_calls = 0
        self.tool_errors = 0
        self.refusals = 0
        self.passed_over = 0
        self.activity = ""
        self._total: Usage | None = None
        self._steps: Usage | None = None
        self._is_speaking = False
        self._takes = {
            Started: self._started,
            Text: self._text,
            ToolCall: self._call,
            ToolResult: self._tool_result,
            ToolDelta: self._delta,
            Retry: self._retry,
            Limit: self._limit,
            Used: self._used,
            ContextUse: self._context,
            Compaction: self._compaction,
            Fault: self._fault,
            Permission: self._permission,
            Result: self._result,
            PassedOver: self._passed_over,
        }

    @property
    def usage(self) -> Usage | None:
        """What it used so far, as far as it told; None where it did not."""
        told = self._total or self._steps
        return replace(told, model=_printable(self.model or "") or None) if told else None

    def take(self, event: Event) -> None:
        """Fold one more event."""
        self._takes[type(event)](event)  # pyright: ignore[reportArgumentType] - each takes its own type

    def _started(self, event: Started) -> None:
        if event.session_id and self.session_id is None and _SESSION_ID.match(event.session_id):
            self.session_id = event.session_id
        self.model = self.model or event.model
        self.tools = self.tools if event.tools is None else event.tools
        if event.servers is not None:
            self.servers = {**(self.servers or {}), **event.servers}
        self.activity = self.activity or "starting"

    def _text(self, event: Text) -> None:
        self._answered()
        if not self._is_speaking:
            self.turns += 1
            self.last_text = ""
        self._is_speaking = True
        self.last_text = (self.last_text + event.text)[-4000:]
        self.activity = "writing"

    def _call(self, event: ToolCall) -> None:
        self._answered()
        if not self._is_speaking:
            self.turns += 1
        self._is_speaking = False
        self.tool_calls += 1
        self.activity = describe(event.name, event.arguments)

    def _tool_result(self, event: ToolResult) -> None:
        self._go_on()
        self._is_speaking = False
        self.tool_errors += event.is_error
        self.activity = "thinking"

    def _delta(self, _event: ToolDelta) -> None:
        self._go_on()

    def _retry(self, event: Retry) -> None:
        self.retry = event
        self.retries += 1
        self.activity = waiting(event)

    def _limit(self, event: Limit) -> None:
        self.limits.pop(event.window or "", None)
        self.limits[event.window or ""] = event
        if len(self.limits) > MAX_LIMITS:
            self.limits.popitem(last=False)

    def _used(self, event: Used) -> None:
        told = _usage(event)
        if event.is_total:
            self._total = told
        else:
            self._steps = told if self._steps is None else self._steps + told

    def _context(self, event: ContextUse) -> None:
        limit = event.limit or (self.context.limit if self.context else None)
        self.context = Context(event.used, limit)

    def _compaction(self, event: Compaction) -> None:
        self.compactions += 1
        self.last_compactions.append(event.text or "")
        self.activity = "shortening its context"

    def _fault(self, event: Fault) -> None:
        if event.text:
            self.faults.append(event)

    def _permission(self, event: Permission) -> None:
        self.refusals += event.decision == "denied"
        if event.decision == "asked":
            self.activity = f"waiting for leave: {event.title}"[:MAX_ACTIVITY_CHARS]

    def _result(self, event: Result) -> None:
        self._go_on()
        self.result = event
        if not event.is_error:
            self.faults.clear()
        self.activity = "failed" if event.is_error else "done"

    def _passed_over(self, _event: PassedOver) -> None:
        self.passed_over += 1

    def _answered(self) -> None:
        """Its model speaks: whatever went wrong before was got over."""
        self._go_on()
        self.faults.clear()

    def _go_on(self) -> None:
        self.retry = None


def _usage(event: Used) -> Usage:
    return Usage(
        event.fresh,
        event.out,
        event.cache,
        event.cost,
        not event.is_partial,
        models={_printable(model): _usage(used) for model, used in (event.models or {}).items()},
    )


def _printable(model: str) -> str:
    """A model's name as a database takes it."""
    return "".join(sign for sign in model if sign.isprintable())


def describe(name: str, arguments: Mapping[str, Any] | str) -> str:
    """A call in a few words, like `Bash: pytest -q`."""
    told = short_name(name)
    what = arguments if isinstance(arguments, str) else telling(arguments)
    what = " ".join(what[: 4 * MAX_ACTIVITY_CHARS].split())
    return (f"{told}: {what}" if what else told)[: 2 * MAX_ACTIVITY_CHARS]


def short_name(name: str) -> str:
    """The name of a tool as people say it: server and tool."""
    for mark in ("mcp__", "mcp_"):
        if name.startswith(mark):
            return name.removeprefix(mark).replace("__", ".", 1)
    return name


def telling(arguments: Mapping[str, Any]) -> str:
    """The argument that says most of what a call does."""
    for key in _TELLING:
        found = arguments.get(key)
        if isinstance(found, str) and found:
            return found
        if isinstance(found, list) and found and all(isinstance(one, str) for one in found):  # pyright: ignore[reportUnknownVariableType] - JSON
            return " ".join(map(str, found))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - JSON
    return next((one for one in arguments.values() if isinstance(one, str) and one), "")


def waiting(event: Retry) -> str:
    """What it waits for, in words."""
    facts: list[str] = []
    if event.attempt is not None:
        facts.append(f"try {event.attempt}" + (f" of {event.most}" if event.most else ""))
    if event.status is not None:
        facts.append(str(event.status))
    return "waiting for its model" + (f" ({', '.join(facts)})" if facts else "")
