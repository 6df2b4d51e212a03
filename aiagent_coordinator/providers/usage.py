"""What a run used of its model, as the CLI itself counts it in its JSON lines. Pure.

Counts are of tokens, each counted once: what came from the provider's cache is not in `in`. Money is in
US dollars, and only where the CLI says it; nothing is estimated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, cast

Event = dict[str, Any]

#: Only such lines are parsed: output is mostly something else.
_TELLING = (b'"usage"', b'"tokens"', b'"stats"')
#: A longer line is a tool's output.
_MAX_LINE_BYTES = 1024 * 1024
#: More than any model takes; a larger number is nonsense.
_MOST = 10**15


@dataclass(frozen=True)
class Usage:
    """Tokens and money of one run.

    Attributes:
        fresh: Tokens read that were in no cache.
        out: Tokens written, thought ones too.
        cache: Tokens read from the provider's cache, or written into it.
        cost: US dollars; None where the CLI does not say.
        is_whole: False where it ended before it told its total: it is what its steps told.
    """

    fresh: int = 0
    out: int = 0
    cache: int = 0
    cost: float | None = None
    is_whole: bool = True

    def __add__(self, other: Usage) -> Usage:
        costs = [one for one in (self.cost, other.cost) if one is not None]
        return Usage(
            self.fresh + other.fresh,
            self.out + other.out,
            self.cache + other.cache,
            sum(costs) if costs else None,
            self.is_whole and other.is_whole,
        )

    def as_json(self) -> dict[str, Any]:
        """As a run carries it: `in`, `out`, `cache`, `cost`, and `partial` where it is not whole."""
        told = asdict(self)
        whole = told.pop("is_whole")
        return {"in": told.pop("fresh"), **told, **({} if whole else {"partial": True})}


def usage_of(dialect: str, out: Iterable[bytes]) -> Usage | None:
    """Read what a run used.

    Args:
        dialect: The dialect of its output, as `transcript.DIALECTS` names it.
        out: Lines of its standard output, the oldest first.

    Returns:
        None where it does not say.
    """
    reader = _READERS.get(dialect)
    if reader is None:
        return None
    total: Usage | None = None
    steps: dict[object, Usage] = {}
    for number, line in enumerate(out):
        event = _event(line)
        if event is None:
            continue
        found, step = reader(event)
        if found is not None and step is None:
            total = found
        elif found is not None:
            # a message is told again as it grows: the last word on it counts
            steps[step if step != "" else number] = found
    if total is not None:
        return total
    if not steps:
        return None
    summed = Usage()
    for one in steps.values():
        summed += one
    return summed


def _event(line: bytes) -> Event | None:
    if len(line) > _MAX_LINE_BYTES or not line.startswith(b"{"):
        return None
    if not any(word in line for word in _TELLING):
        return None
    try:
        event: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast("Event", event) if isinstance(event, dict) else None


_Read = tuple[Usage | None, object]
_NOTHING: _Read = (None, None)


def _claude(event: Event) -> _Read:
    """`result` has the total; before it, each message its own, whose output is only what had begun."""
    if event.get("type") == "result":
        return _anthropic(event.get("usage"), event.get("total_cost_usd"), is_whole=True), None
    message = event.get("message")
    if event.get("type") == "assistant" and isinstance(message, dict):
        told = cast("Event", message)
        return _anthropic(told.get("usage"), None, is_whole=False), told.get("id") or ""
    return _NOTHING


def _anthropic(usage: object, cost: object, *, is_whole: bool) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    told = cast("Event", usage)
    cached = sum(
        _count(told.get(name))
        for name in ("cache_creation_input_tokens", "cache_read_input_tokens")
    )
    fresh, out = _count(told.get("input_tokens")), _count(told.get("output_tokens"))
    return Usage(fresh, out, cached, _money(cost), is_whole)


def _qwen(event: Event) -> _Read:
    """As claude's, but its input counts what came from the cache as well."""
    found, step = _claude(event)
    if found is None:
        return _NOTHING
    fresh = max(0, found.fresh - found.cache)
    return Usage(fresh, found.out, found.cache, None, found.is_whole), step


def _codex(event: Event) -> _Read:
    """Input counts what came from the cache; the thought tokens are in the output."""
    usage = event.get("usage")
    if event.get("type") != "turn.completed" or not isinstance(usage, dict):
        return _NOTHING
    return _with_cache_inside(cast("Event", usage), "cached_input_tokens"), None


def _gemini(event: Event) -> _Read:
    stats = event.get("stats")
    if event.get("type") != "result" or not isinstance(stats, dict):
        return _NOTHING
    return _with_cache_inside(cast("Event", stats), "cached"), None


def _with_cache_inside(told: Event, cached_key: str) -> Usage:
    """Counts of which the input has what came from the cache as well."""
    cached = _count(told.get(cached_key))
    fresh = max(0, _count(told.get("input_tokens")) - cached)
    return Usage(fresh, _count(told.get("output_tokens")), cached)


def _opencode(event: Event) -> _Read:
    """It tells no total: the steps are all there is."""
    part = event.get("part")
    if event.get("type") != "step_finish" or not isinstance(part, dict):
        return _NOTHING
    step = cast("Event", part)
    tokens = step.get("tokens")
    if not isinstance(tokens, dict):
        return _NOTHING
    told = cast("Event", tokens)
    cache = told.get("cache")
    kinds = cast("Event", cache) if isinstance(cache, dict) else {}
    cached = _count(kinds.get("read")) + _count(kinds.get("write"))
    out = _count(told.get("output")) + _count(told.get("reasoning"))
    found = Usage(_count(told.get("input")), out, cached, _money(step.get("cost")))
    return found, step.get("id") or ""


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return value if 0 <= value < _MOST else 0


def _money(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _MOST else None


_READERS: dict[str, Callable[[Event], _Read]] = {
    "claude-stream": _claude,
    "codex-json": _codex,
    "gemini-stream": _gemini,
    "opencode-json": _opencode,
    "qwen-stream": _qwen,
}
