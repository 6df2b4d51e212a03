"""What programs say of each model that a run used: some ask a second one for small things."""

from __future__ import annotations

from collections.abc import Mapping

from aiagent_coordinator.providers.dialects.codex import with_cache_inside
from aiagent_coordinator.providers.dialects.values import Json, count, mapping, name, number
from aiagent_coordinator.providers.events import Used

#: More are not kept.
MAX_MODELS = 16


def of_claude(told: Json) -> Mapping[str, Used] | None:
    """`modelUsage` of claude's `result`, all of the session; None where it is empty, as qwen's."""
    found: dict[str, Used] = {}
    for model, facts in list(told.items())[:MAX_MODELS]:
        one = mapping(facts)
        cached = count(one.get("cacheCreationInputTokens"))
        found[name(model)] = Used(
            count(one.get("inputTokens")),
            count(one.get("outputTokens")),
            cached + count(one.get("cacheReadInputTokens")),
            number(one.get("costUSD")),
            is_total=True,
        )
    return found or None


def of_gemini(told: Json) -> Mapping[str, Used] | None:
    """`models` of gemini's `stats`."""
    listed = list(told.items())[:MAX_MODELS]
    return {name(model): with_cache_inside(mapping(one), "cached") for model, one in listed} or None
