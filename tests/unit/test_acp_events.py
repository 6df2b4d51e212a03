"""What agents of the Agent Client Protocol say, as events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.drivers.acp_events import Translator, used_of

END = {"stopReason": "end_turn"}


def usage(translator: Translator, answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in translator.turn_over(answer) if one["event"] == "usage"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}, (10, 5, 0)),
        # counted twice, by whoever has the cached ones among those read
        ({"inputTokens": 100, "outputTokens": 11, "totalTokens": 111, "cachedReadTokens": 40}, (60, 11, 40)),
        ({"inputTokens": 60, "outputTokens": 11, "totalTokens": 111, "cachedReadTokens": 40}, (60, 11, 40)),
        ({"input_tokens": 30, "output_tokens": 15}, (30, 15, 0)),
        ({"inputTokens": 10, "outputTokens": 5, "thoughtTokens": 7}, (10, 12, 0)),
        ({"inputTokens": "many"}, (0, 0, 0)),
    ],
)  # fmt: skip
def test_tokens_are_counted_once_whatever_they_are_called(
    told: dict[str, Any], expected: tuple[int, int, int]
):
    used = used_of(told)
    assert (used["in"], used["out"], used["cache"]) == expected


def test_each_agent_counts_as_it_does():
    gemini = Translator()
    quota = {"_meta": {"quota": {"token_count": {"input_tokens": 30, "output_tokens": 15}}}}
    assert usage(gemini, {**END, **quota})[0]["in"] == 30
    qwen = Translator()
    for _ in range(2):
        chunk = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": ""}}
        list(qwen.update({**chunk, "_meta": {"usage": {"inputTokens": 10, "outputTokens": 5}}}))
    (used,) = usage(qwen, END)
    assert (used["in"], used["out"], used["is_total"]) == (20, 10, False)
    copilot = Translator()
    copilot.agent = "Copilot"
    assert usage(copilot, {**END, "usage": {"inputTokens": 9}})[0]["is_total"]


def test_what_a_session_cost_is_told_of_each_turn():
    translator = Translator()
    costs: list[float] = []
    for so_far in (0.25, 0.75):
        update = {"used": 100, "size": 1000, "cost": {"amount": so_far, "currency": "USD"}}
        (context,) = translator.update({"sessionUpdate": "usage_update", **update})
        assert context == {"event": "context", "used": 100, "limit": 1000}
        costs += [one["cost"] for one in usage(translator, END)]
    assert costs == [0.25, 0.5]


def test_a_call_is_told_once_with_its_arguments_and_once_with_its_result():
    translator = Translator()
    begun = {"sessionUpdate": "tool_call", "toolCallId": "c", "title": "Shell", "status": "pending"}
    content = [{"type": "content", "content": {"type": "text", "text": "hi"}}]
    over = {"sessionUpdate": "tool_call_update", "toolCallId": "c", "status": "completed"}
    told = [
        *translator.update({**begun, "rawInput": {}}),
        *translator.update({**over, "status": "in_progress", "rawInput": {"command": "echo hi"}}),
        *translator.update({**over, "content": content}),
        *translator.update({**over, "content": content}),
    ]
    assert [one["event"] for one in told] == ["tool_call", "tool_result"]
    assert told[0]["arguments"] == {"command": "echo hi"}
    assert (told[1]["text"], told[1]["is_error"]) == ("hi", False)


@pytest.mark.parametrize(
    ("reason", "is_error"),
    [
        ("end_turn", False),
        ("cancelled", False),
        ("refusal", True),
        ("max_tokens", True),
        ("", True),
    ],
)
def test_how_a_turn_ended_is_told(reason: str, is_error: bool):
    (result,) = Translator().turn_over({"stopReason": reason})
    assert (result["event"], result["is_error"]) == ("result", is_error)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
KEYS = ("toolCallId", "title", "kind", "status", "content", "rawInput", "rawOutput", "_meta", "cost", "used", "size")  # fmt: skip


@given(
    st.sampled_from(["agent_message_chunk", "tool_call", "tool_call_update", "usage_update", "x"]),
    st.dictionaries(st.sampled_from(KEYS), ANY, max_size=8),
)
def test_no_update_breaks_it(kind: str, update: dict[str, Any]):
    translator = Translator()
    told = [*translator.update({"sessionUpdate": kind, **update}), *translator.turn_over(update)]
    assert all("event" in one for one in told)
