"""Claude Code's `--output-format stream-json`, and Qwen Code's, which grew out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from aiagent_coordinator.providers.dialects.base import Reader
from aiagent_coordinator.providers.dialects.models import of_claude
from aiagent_coordinator.providers.dialects.values import (
    Json,
    arguments,
    content,
    count,
    instant,
    items,
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

_LIMITS: dict[str, Literal["allowed", "warning", "rejected"]] = {
    "allowed": "allowed",
    "allowed_warning": "warning",
    "warning": "warning",
    "rejected": "rejected",
    "limited": "rejected",
}
#: What it puts in a model's place where it speaks itself.
_ITSELF = "<synthetic>"


class Claude(Reader):
    """Reads claude's lines."""

    #: Each `result` counts the tokens of its own turn.
    counts_by_turn = True

    def __init__(self) -> None:
        super().__init__()
        self._context = 0
        #: What its turns before this one used: driven live it ends several, and tells the tokens of each.
        self._turns = (0, 0, 0)
        #: Calls whose arguments its model is writing, by their place in its message.
        self._written: dict[int, str] = {}

    def read(self, told: Json) -> Iterator[Event]:
        """The events of one line."""
        match told.get("type"):
            case "assistant":
                yield from self._message(told)
            case "user":
                yield from self._results(told)
            case "system":
                yield from self._system(told)
            case "stream_event":
                yield from self._pieces(mapping(told.get("event")))
            case "rate_limit_event":
                yield from _limits(mapping(told.get("rate_limit_info")))
            case "result":
                yield from self._result(told)
            case _:
                return

    def _system(self, told: Json) -> Iterator[Event]:
        match told.get("subtype"):
            case "api_retry":
                wait = number(told.get("retry_delay_ms"))
                yield Retry(
                    whole(told.get("attempt")),
                    whole(told.get("max_retries")),
                    None if wait is None else wait / 1000,
                    whole(told.get("error_status")),
                    said(told.get("error")),
                )
            case "retry":
                yield _retry(mapping(told.get("data")))
            case "compact_boundary":
                yield from self._compaction(mapping(told.get("compact_metadata")))
            case _ if "session_id" in told and told.get("subtype") in {"init", None}:
                servers = {
                    name(one.get("name")): name(one.get("status"))
                    for one in items(told.get("mcp_servers"))
                }
                yield Started(
                    said(told.get("session_id")),
                    said(told.get("model")),
                    names(told.get("tools")),
                    servers if "mcp_servers" in told else None,
                )
            case _:
                return

    def _compaction(self, facts: Json) -> Iterator[Event]:
        before, after = whole(facts.get("pre_tokens")), whole(facts.get("post_tokens"))
        shrunk = f", {before} tokens" if before is not None else ""
        shrunk += f" to {after}" if shrunk and after is not None else ""
        yield Compaction(f"{name(facts.get('trigger')) or 'auto'}{shrunk}")
        if after is not None:
            self._context = after
            yield ContextUse(after)

    def _message(self, told: Json) -> Iterator[Event]:
        message = mapping(told.get("message"))
        error = told.get("error")
        if error:
            yield Fault(text(error), whole(told.get("api_error_status")))
        is_its_own = bool(error) or message.get("model") == _ITSELF
        for part in items(message.get("content")):
            match part.get("type"):
                case "text" if not is_its_own and not self.is_its_own(part.get("text")):
                    yield Text(text(part.get("text")))
                case "tool_use":
                    call, tool = name(part.get("id")), name(part.get("name"))
                    self.begin(call, tool, told.get("timestamp"))
                    yield ToolCall(call, tool, arguments(part.get("input"), self.line_bytes))
                case _:
                    continue
        used = self.used(message.get("usage"), None, is_partial=True)
        if used is None:
            return
        yield self.grown(name(message.get("id")), used)
        if told.get("parent_tool_use_id") is None and used.fresh + used.cache:
            self._context = used.fresh + used.cache + used.out
            yield ContextUse(self._context)

    def is_its_own(self, words: object) -> bool:
        """Whether the program says this in its model's place."""
        del words
        return False

    def _results(self, told: Json) -> Iterator[Event]:
        for part in items(mapping(told.get("message")).get("content")):
            if part.get("type") == "tool_result":
                call = name(part.get("tool_use_id"))
                is_error = part.get("is_error") is True
                seconds = self.end(call, told.get("timestamp"))
                yield ToolResult(call, content(part.get("content")), is_error, seconds)

    def _pieces(self, told: Json) -> Iterator[Event]:
        """A message as its model writes it; it comes whole later."""
        place = whole(told.get("index")) or 0
        block, piece = mapping(told.get("content_block")), mapping(told.get("delta"))
        if block.get("type") == "tool_use" and len(self._written) < 64:
            self._written[place] = name(block.get("id"))
        elif piece.get("type") == "input_json_delta" and place in self._written:
            yield ToolDelta(self._written[place], text(piece.get("partial_json")))
        elif told.get("type") == "message_stop":
            self._written = {}

    def _result(self, told: Json) -> Iterator[Event]:
        """`result` says how it ended; its subtype may be `success` beside `is_error`."""
        used = self.used(told.get("usage"), told.get("total_cost_usd"), is_partial=False)
        if used is not None:
            fresh, out, cache = self._turns if self.counts_by_turn else (0, 0, 0)
            used = replace(
                used, fresh=used.fresh + fresh, out=used.out + out, cache=used.cache + cache
            )
            self._turns = (used.fresh, used.out, used.cache)
            yield replace(used, models=of_claude(mapping(told.get("modelUsage"))))
        sizes = [
            size
            for model in mapping(told.get("modelUsage")).values()
            if (size := whole(mapping(model).get("contextWindow")))
        ]
        if sizes and self._context:
            yield ContextUse(self._context, max(sizes))
        for refused in items(told.get("permission_denials")):
            yield Permission(name(refused.get("tool_use_id")), name(refused.get("tool_name")), "denied")  # fmt: skip
        is_error = bool(told.get("is_error"))
        subtype = said(told.get("subtype"))
        if is_error:
            yield from self.faults(told)
        stop = subtype if is_error and subtype != "success" else said(told.get("stop_reason"))
        yield Result(
            is_error, text(told.get("result")) or None, stop or said(told.get("terminal_reason"))
        )

    def faults(self, told: Json) -> Iterator[Fault]:
        """What a last line says of its error."""
        status = whole(told.get("api_error_status"))
        errors = told.get("errors")
        lines = [text(error, 4000) for error in (errors if isinstance(errors, list) else [])[:20]]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - JSON
        lines.append(text(told.get("result"), 4000))
        lines.append(f"API error status {told.get('api_error_status')}" if status else "")
        subtype = told.get("subtype")
        lines.append("" if subtype == "success" else text(subtype, 4000))
        for line in lines:
            if line:
                yield Fault(line, status)

    def used(self, usage: object, cost: object, *, is_partial: bool) -> Used | None:
        """What an object of usage says; None where it is none."""
        if not isinstance(usage, dict):
            return None
        told = mapping(usage)  # pyright: ignore[reportUnknownArgumentType] - JSON
        cached = count(told.get("cache_creation_input_tokens"))
        cached += count(told.get("cache_read_input_tokens"))
        return Used(
            count(told.get("input_tokens")),
            count(told.get("output_tokens")),
            cached,
            number(cost),
            is_total=not is_partial,
            is_partial=is_partial,
        )


def _retry(facts: Json) -> Retry:
    """As qwen says it."""
    wait = number(facts.get("delayMs"))
    return Retry(
        whole(facts.get("attempt")),
        whole(facts.get("maxRetries")),
        None if wait is None else wait / 1000,
        reason=said(facts.get("reason")),
    )


def _limits(told: Json) -> Iterator[Event]:
    """The window that it speaks of, and any others that it lists."""
    status = _LIMITS.get(name(told.get("status")), "allowed")
    kind = said(told.get("rateLimitType"))
    windows = mapping(told.get("unifiedWindows"))
    main = mapping(windows.get(kind or ""))
    yield Limit(
        kind,
        status,
        _share(told.get("utilization", main.get("utilization"))),
        instant(told.get("resetsAt", main.get("resetsAt"))),
    )
    for window, facts in list(windows.items())[:16]:
        if window != kind:
            other = mapping(facts)
            used, ends = _share(other.get("utilization")), instant(other.get("resetsAt"))
            yield Limit(name(window), "allowed", used, ends)


def _share(value: object) -> float | None:
    """0 to 1; some versions count to 100."""
    found = number(value)
    return None if found is None else min(1.0, found if found <= 1 else found / 100)


class Qwen(Claude):
    """Reads qwen's lines."""

    #: Its `result` counts from the beginning.
    counts_by_turn = False

    def is_its_own(self, words: object) -> bool:
        """It says an error of its provider in its model's place."""
        return isinstance(words, str) and words.startswith("[API Error")

    def faults(self, told: Json) -> Iterator[Fault]:
        """As claude's, but the words stand in an object of their own."""
        error = told.get("error")
        facts = mapping(error)
        words = " ".join(text(facts[key], 4000) for key in ("type", "message") if facts.get(key))
        if words or error:
            yield Fault(words or text(error, 4000))
        yield from super().faults(told)

    def used(self, usage: object, cost: object, *, is_partial: bool) -> Used | None:
        """As claude's, but its input counts what came from the cache as well, and it tells no cost."""
        del cost
        found = super().used(usage, None, is_partial=is_partial)
        if found is None:
            return None
        fresh = max(0, found.fresh - found.cache)
        return Used(fresh, found.out, found.cache, None, found.is_total, found.is_partial)
