"""From what an ACP agent says to events. Pure: JSON in, events out; what is not known is left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

Json = dict[str, Any]
#: Text that an agent writes in pieces is said in pieces of about this many characters.
TEXT_CHARS: Final = 2000
#: Of what a tool answered.
RESULT_CHARS: Final = 256 * 1024
#: Agents whose usage, with each answer to a prompt, counts from the beginning of the session.
CUMULATIVE: Final = frozenset({"copilot", "github copilot"})
_OVER: Final = frozenset({"completed", "failed"})


class Translator:
    """Follows one session."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._chars = 0
        #: Calls that were told, and those whose result was.
        self._called: set[str] = set()
        self._ended: set[str] = set()
        #: What the agent says in its updates that it used in this turn, and what its session cost so far.
        self._chunked: Json = {}
        self._cost: float | None = None
        #: Of that, what was told with turns before.
        self._told = 0.0
        self.agent = ""

    def update(self, update: Json) -> Iterator[Json]:
        """What one update says."""
        self._note_chunk(_object(_object(update.get("_meta")).get("usage")))
        kind = update.get("sessionUpdate")
        if kind == "agent_message_chunk":
            yield from self._write(_text_of(update.get("content")))
            return
        yield from self.flush()
        match kind:
            case "tool_call" | "tool_call_update":
                yield from self._call(update)
            case "usage_update":
                yield from self._context(update)
            case _:
                pass

    def flush(self) -> Iterator[Json]:
        """What was written and not yet said."""
        if text := "".join(self._text):
            yield {"event": "text", "text": text}
        self._text, self._chars = [], 0

    def _write(self, text: str) -> Iterator[Json]:
        self._text.append(text)
        self._chars += len(text)
        if self._chars >= TEXT_CHARS:
            yield from self.flush()

    def _call(self, update: Json) -> Iterator[Json]:
        ident, status = str(update.get("toolCallId") or ""), str(update.get("status"))
        arguments = update.get("rawInput")
        if ident not in self._called and (arguments or status in {"in_progress", *_OVER}):
            self._called.add(ident)
            named = _object(update.get("_meta")).get("toolName")
            name = str(named or update.get("title") or update.get("kind") or "tool")
            yield {
                "event": "tool_call",
                "id": ident,
                "name": name,
                "arguments": arguments if isinstance(arguments, dict) else str(arguments or ""),
            }
        if status in _OVER and ident not in self._ended:
            self._ended.add(ident)
            parts = (_text_of(_object(one).get("content")) for one in _list(update.get("content")))
            text = "\n".join(part for part in parts if part) or str(update.get("rawOutput") or "")
            failed = status == "failed"
            told = text[:RESULT_CHARS]
            yield {"event": "tool_result", "id": ident, "text": told, "is_error": failed}

    def _context(self, update: Json) -> Iterator[Json]:
        amount = _object(update.get("cost")).get("amount")
        if isinstance(amount, int | float):
            self._cost = float(amount)
        used, size = update.get("used"), update.get("size")
        if isinstance(used, int):
            limit = size if isinstance(size, int) else None
            yield {"event": "context", "used": used, "limit": limit}

    def _note_chunk(self, usage: Json) -> None:
        """Some agents say with the last piece of each answer of their model what that took."""
        for name, number in usage.items():
            if isinstance(number, int):
                self._chunked[name] = self._chunked.get(name, 0) + number

    def turn_over(self, answer: Json) -> Iterator[Json]:
        """What the answer to a prompt says."""
        yield from self.flush()
        meta = _object(_object(answer.get("_meta")).get("quota"))
        tokens = _object(meta.get("token_count"))
        usage = _object(answer.get("usage")) or tokens or self._chunked
        self._chunked = {}
        if usage or self._cost is not None:
            is_total = self.agent.lower() in CUMULATIVE
            cost = self._cost
            if cost is not None and not is_total:
                # what it cost is told of the whole session each time
                cost, self._told = cost - self._told, cost
            yield {"event": "usage", **used_of(usage), "cost": cost, "is_total": is_total}
        reason = str(answer.get("stopReason") or "")
        is_error = reason not in {"end_turn", "cancelled"}
        yield {"event": "result", "is_error": is_error, "text": None, "stop_reason": reason or None}


def used_of(usage: Json) -> dict[str, int]:
    """Tokens by our names, from the names that agents have for them; `in` is without what was cached."""

    def first(*names: str) -> int:
        found = (usage.get(name) for name in names)
        return next((one for one in found if isinstance(one, int)), 0)

    read = first("inputTokens", "input_tokens", "promptTokens", "prompt_tokens")
    out = first("outputTokens", "output_tokens", "candidatesTokens", "completion_tokens")
    cache = first("cachedReadTokens", "cached_read_tokens", "cachedInputTokens", "cachedTokens")
    total = first("totalTokens", "total_tokens")
    thought = first("thoughtTokens", "thought_tokens")
    if cache and total and total < read + out + cache:
        read -= cache  # it counts them twice
    return {"in": max(read, 0), "out": out + thought, "cache": cache}


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _text_of(content: object) -> str:
    return str(_object(content).get("text") or "")
